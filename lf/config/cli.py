"""Command lines of the form ``[preset=NAME] [key=value …]``."""

from typing import Any, TypeVar

from pydantic import BaseModel

from lf.config.presets import preset
from lf.core.cli import config_from
from lf.core.errors import UserError
from lf.core.parsing import overrides

C = TypeVar("C", bound=BaseModel)


def config_over_preset(
    argv: list[str],
    model: type[C],
    section: str,
    doc: str | None,
    base: dict[str, Any] | None = None,
) -> C:
    """The config of a command line: a preset's ``section``, overridden by the given words.

    Args:
        argv: ``[preset=NAME] [key=value …]``; with ``--help`` it prints ``doc`` and the keys' values, and exits.
        model: type of the config.
        section: the part of the preset that holds its values: ``training`` or ``evaluation``.
        doc: the command's docstring.
        base: values used if no preset is named; by default those of preset ``shapes``.

    Raises:
        UserError: an unknown preset or key, or a bad value.
    """
    words, title = list(argv), ""
    if "preset" not in model.model_fields:
        named = [word for word in argv if word.partition("=")[0] == "preset"]
        if base is None or named:
            name = str(overrides(named).get("preset", "shapes"))
            if section not in preset(name):
                raise UserError(f"preset={name}: has no values for this command; allowed without preset=")
            base = {key: value for key, value in preset(name)[section].items() if key in model.model_fields}
            words, title = [word for word in argv if word not in named], f"preset {name}"
    return config_from(words, model, section, doc, base, title=title)
