"""Shared by all commands: ``--help``, ``key=value`` words over a typed config, and one-line errors with exit code 2.

Imports no torch.
"""

import argparse
import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel

from lf.core import preemption
from lf.core.errors import UserError, storage_fault
from lf.core.parsing import merge, overrides, parse
from lf.core.plugins import Plugin

C = TypeVar("C", bound=BaseModel)
COLUMNS = 80  # width of every help text


def run_command(main: Callable[[list[str]], None]) -> NoReturn:
    """Runs a command's ``main(argv)``: a `UserError`, or a full disk, becomes one line on stderr and exit code 2."""
    try:
        main(sys.argv[1:])
    except (UserError, OSError) as error:
        line = " ".join((str(error) if isinstance(error, UserError) else storage_fault(error)).split())
        if not line:
            raise
        sys.stderr.write(f"error: {line}\n")  # one write: other processes also write to stderr
        sys.exit(2)
    except preemption.Stopped as stopped:
        print(f"stopped ({stopped}); the same command resumes it", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def config_from(
    argv: list[str],
    model: type[C],
    where: str,
    doc: str | None,
    base: Mapping[str, Any] | None = None,
    explained: type[BaseModel] | None = None,
    positional: int = 0,
) -> C:
    """The config with ``base``'s values, overridden by ``key=value`` words.

    Args:
        argv: positional words, then ``[key=value …]``; or ``--help``, which prints ``doc`` and all keys and exits.
        model: type of the config.
        where: name of the config in error messages.
        doc: the command's docstring; it begins with the usage in backticks.
        base: values that the words override.
        explained: the model whose keys ``--help`` prints, if not ``model``.
        positional: number of words before the keys.

    Raises:
        UserError: too few words, an unknown key or a bad value, in one line.
    """
    show_help(argv, doc, explained or model)
    if len(argv) < positional or any("=" in word for word in argv[:positional]):
        raise UserError(f"usage: {usage_of(doc)}; --help lists the keys")
    return parse(model, merge(base or {}, overrides(argv[positional:])), where=where)


def show_help(argv: list[str], doc: str | None, model: type[BaseModel]) -> None:
    """Prints ``doc`` and the keys of ``model``, and exits, if ``--help`` is among the words."""
    if {"-h", "--help"} & set(argv):
        print(wrapped(doc or ""), "", "Keys, defaults and meaning:", *help_of(model), sep="\n")
        sys.exit(0)


def usage_of(doc: str | None) -> str:
    """The usage of a command: the text in the first backticks of its docstring."""
    return (doc or "").split("`")[1]


def wrapped(text: str) -> str:
    """A docstring wrapped at `COLUMNS` columns; indented lines stay as they are."""
    parts = []
    for part in inspect.cleandoc(text).split("\n\n"):
        plain = not any(line.startswith((" ", "|", "[", "runs/", "-")) for line in part.splitlines())
        parts.append(textwrap.fill(part, COLUMNS, break_on_hyphens=False, break_long_words=False) if plain else part)
    return "\n\n".join(parts).replace("``", "")


class Parser(argparse.ArgumentParser):
    """An argparse parser whose help is the docstring (80 columns) and whose errors are one line.

    Options cannot be abbreviated.

    Args:
        doc: the command's docstring; it begins with the usage in backticks.
        keys: configs whose keys ``--help`` also lists.
    """

    def __init__(self, doc: str | None, *keys: type[BaseModel]):
        usage = usage_of(doc)
        super().__init__(
            prog=" ".join(usage.split()[:3]),
            description=wrapped(doc or ""),
            epilog="\n".join(["keys:", *(line for model in keys for line in help_of(model))]) if keys else None,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=COLUMNS),
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raises `UserError` instead of exiting."""
        raise UserError(f"{self.prog}: {message}; --help explains it")


def help_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Name, default and meaning of every key, as lines for ``--help``, at most `COLUMNS` wide."""
    lines: list[str] = []
    for key, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and not issubclass(kind, Plugin):
            lines += help_of(kind, f"{prefix}{key}.")
            continue
        default = "" if field.is_required() else field.get_default(call_default_factory=True)
        line = f"  {prefix + key:<26} {getattr(default, 'name', default)!s:<9} {field.description or ''}".rstrip()
        lines += textwrap.wrap(line, COLUMNS, subsequent_indent=" " * 39, break_on_hyphens=False)
        if isinstance(default, Plugin):
            lines += [line for line in help_of(type(default), f"{prefix}{key}.") if f"{key}.name " not in line]
    return lines
