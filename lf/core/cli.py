"""Shared by all commands: ``--help``, ``key=value`` words over a typed config, and one-line errors with exit code 2.

Imports no torch.
"""

import argparse
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from lf.core import preemption
from lf.core.errors import UserError, storage_fault
from lf.core.parsing import merge, overrides, parse
from lf.core.plugins import Plugin

C = TypeVar("C", bound=BaseModel)
COLUMNS = 80  # width of every help text
INDENT = 39  # where the meaning of a key begins


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
    positional: int = 0,
    title: str = "",
) -> C:
    """The config with ``base``'s values, overridden by ``key=value`` words.

    Args:
        argv: positional words, then ``[key=value …]``; or ``--help``, which prints ``doc`` and all keys and exits.
        model: type of the config.
        where: name of the config in error messages.
        doc: the command's docstring; it begins with the usage in backticks.
        base: values that the words override.
        positional: number of words before the keys.
        title: where ``base`` is from, such as ``preset shapes``, for ``--help``.

    Raises:
        UserError: too few words, an unknown key or a bad value, in one line.
    """
    keys = keys_of(argv) if asks_help(argv) else argv[positional:]
    if not asks_help(argv) and (len(argv) < positional or any("=" in word for word in argv[:positional])):
        raise UserError(f"usage: {usage_of(doc)}; --help lists the keys")
    given = overrides(keys)
    if "runs" in model.model_fields and set(given.get("runtime", ())) == {"runs"}:  # it has no other runtime
        given["runs"] = given.pop("runtime")["runs"]
    values = merge(base or {}, given)
    if asks_help(argv):
        show_help(doc, help_of(model, values), title)
    return parse(model, values, where=where)


def asks_help(argv: Sequence[str]) -> bool:
    """Whether ``--help`` is among the words."""
    return bool({"-h", "--help"} & set(argv))


def keys_of(argv: Sequence[str]) -> list[str]:
    """The ``key=value`` words among the words of a command."""
    return [word for word in argv if "=" in word and not word.startswith("-")]


def show_help(doc: str | None, keys: Sequence[str], title: str = "") -> NoReturn:
    """Prints ``doc`` and ``keys``, and exits."""
    print(wrapped(doc or ""), "", _heading(title), *keys, sep="\n")
    sys.exit(0)


def _heading(title: str) -> str:
    return f"Keys, values{f' ({title})' if title else ''} and meaning:"


def usage_of(doc: str | None) -> str:
    """The usage of a command: the text in the first backticks of its docstring."""
    return (doc or "").split("`")[1]


def wrapped(text: str) -> str:
    """A docstring wrapped at `COLUMNS` columns; indented lines stay as they are."""
    parts = []
    for part in inspect.cleandoc(text).split("\n\n"):
        plain = not any(line.startswith((" ", "|", "[", "runs/", "-")) for line in part.splitlines())
        shown = part.replace("``", "")
        parts.append(textwrap.fill(shown, COLUMNS, break_on_hyphens=False, break_long_words=False) if plain else shown)
    return "\n\n".join(parts)


def store_of(word: str) -> Path:
    """The run store that a word names, ``runs=FOLDER`` or FOLDER alone. Raises `UserError` if it sets another key."""
    key, equals, folder = word.partition("=")
    if equals and key not in ("runs", "runtime.runs"):
        raise UserError(f"{key}: unknown key; allowed: runs")
    return Path(os.path.expanduser(folder if equals else word))


class Parser(argparse.ArgumentParser):
    """An argparse parser whose help is the docstring (80 columns) and whose errors are one line.

    Options may stand anywhere among the words. They cannot be abbreviated.

    Args:
        doc: the command's docstring; it begins with the usage in backticks.
        keys: the command's ``key=value`` words → lines about its keys, for ``--help``.
    """

    def __init__(self, doc: str | None, keys: Callable[[list[str]], list[str]] | None = None):
        super().__init__(
            prog=" ".join(usage_of(doc).split()[:3]),
            usage=argparse.SUPPRESS,
            description=wrapped(doc or ""),
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=COLUMNS),
            allow_abbrev=False,
        )
        self.keys = keys
        self._positionals.title, self._optionals.title = "Words", "Options"

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        return self.parse_intermixed_args(args, namespace)

    def parse_intermixed_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None
    ) -> argparse.Namespace:
        words = sys.argv[1:] if args is None else list(args)
        if asks_help(words):
            keys = ["", _heading(""), *self.keys(keys_of(words))] if self.keys else []
            print("\n".join([self.format_help().rstrip(), *keys]))
            sys.exit(0)
        return super().parse_intermixed_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Raises `UserError` instead of exiting."""
        raise UserError(f"{self.prog}: {message}; --help explains it")


def help_of(
    model: type[BaseModel], values: Mapping[str, Any] | None, prefix: str = "", without: Collection[str] = ()
) -> list[str]:
    """Name, value and meaning of every key, as lines for ``--help``, at most `COLUMNS` wide; ``runtime`` comes last.

    Args:
        model: the config.
        values: the values in force where they are not its defaults; None: values are not known.
        prefix: of the names.
        without: keys that are left out.
    """
    lines: list[str] = []
    for key, field in sorted(model.model_fields.items(), key=lambda item: item[0] == "runtime"):
        if key in without:
            continue
        kind, value = field.annotation, None if values is None else _in_force(field, key, values)
        one = field.description or isinstance(kind, type) and issubclass(kind, Plugin)  # such as a range
        if not one and isinstance(kind, type) and issubclass(kind, BaseModel):
            lines += help_of(kind, value if values is None else dict(value or {}), f"{prefix}{key}.")
            continue
        name = value.name if isinstance(value, Plugin) else "" if values is None else typed(value)
        head = f"  {prefix + (field.alias or key):<26} {name:<9}"
        about = textwrap.wrap(_meaning(model, key), COLUMNS - INDENT, break_on_hyphens=False)
        first = [] if len(head) < INDENT else [head.rstrip()]
        lines += [*first, *(f"{'' if first or n else head:<{INDENT}}{line}" for n, line in enumerate(about))]
        lines += [head.rstrip()] if not about and not first else []
        if isinstance(value, Plugin):
            lines += help_of(type(value), dict(value), f"{prefix}{key}.", without=("name",))
        for each in value if isinstance(value, tuple) else ():
            if isinstance(each, Plugin):
                lines += help_of(type(each), dict(each), f"{each.name}: ", without=("name",))
    return lines


def _meaning(model: type[BaseModel], key: str) -> str:
    """What a key means: its description, or that of the class it is inherited from, and the words that it takes."""
    fields = [getattr(kind, "model_fields", {}).get(key) for kind in model.__mro__]
    about: str = next((field.description for field in fields if field and field.description), "")
    annotation = model.model_fields[key].annotation
    words = get_args(annotation) if get_origin(annotation) is Literal else ()
    named = all(re.search(rf"\b{word}\b", about) for word in words)
    return about if named else "; ".join(filter(None, [f"{', '.join(words[:-1])} or {words[-1]}", about]))


def _in_force(field: FieldInfo, key: str, values: Mapping[str, Any]) -> Any:
    """The value of a key; as it was given where it alone makes no valid one; empty if it must be given."""
    if key not in values:
        return "" if field.is_required() else field.get_default(call_default_factory=True)
    kind: Any = Annotated[field.annotation, *(field.metadata or [None])]
    for value in (values[key], [values[key]]):  # one of a list may be given alone
        with suppress(ValidationError):
            return TypeAdapter(kind).validate_python(value)
    return values[key]


def typed(value: Any) -> str:
    """A value as it is typed on a command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Plugin):
        own = {k: v for k, v in value if v != type(value).model_fields[k].get_default(call_default_factory=True)}
        return typed({"name": value.name, **own}) if own else value.name
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k}: {typed(v)}' for k, v in value.items())}}}"
    return f"[{','.join(map(typed, value))}]" if isinstance(value, list | tuple) else str(value)
