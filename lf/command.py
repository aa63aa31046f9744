"""What commands share: ``key=value`` words over a preset, and ``--help``."""

import sys
from typing import Any, TypeVar

from pydantic import BaseModel

from lf.config import help_of, merge, overrides, parse, preset
from lf.errors import UserError

C = TypeVar("C", bound=BaseModel)


def config_from(
    argv: list[str],
    model: type[C],
    section: str,
    doc: str | None,
    base: dict[str, Any] | None = None,
    explained: type[BaseModel] | None = None,
) -> C:
    """The config that a command line asks for: a preset's ``section`` (default: ``shapes``) under the given words.

    Args:
        argv: ``[preset=NAME] [key=value …]``, or ``--help``, which prints ``doc`` and all keys and exits.
        model: type of the config.
        section: which part of the preset fills it.
        base: values used instead of a preset's.
        explained: the model whose keys ``--help`` prints, if not ``model``.
    """
    if {"-h", "--help"} & set(argv):
        print((doc or "").strip(), "", "Keys, defaults and meaning:", *help_of(explained or model), sep="\n")
        sys.exit(0)
    given = overrides(argv)
    if base is None or ("preset" in given and "preset" not in model.model_fields):
        name = str(given.pop("preset", "shapes"))
        if section not in preset(name):
            raise UserError(f"preset={name}: has no values for this command; allowed without preset=")
        base = {key: value for key, value in preset(name)[section].items() if key in model.model_fields}
    return parse(model, merge(base, given), where=section)
