"""Typed configs from ``key=value`` words and files; a bad value raises a one-line error. Imports no torch."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yaml import YAMLError

from lf.core.errors import UserError, nearest

C = TypeVar("C", bound=BaseModel)
NAMED = ("schedule", "path", "tokenizer", "init")  # keys whose word is a name: schedule=cascaded is schedule.name
NAMES_RUN = re.compile(r"(^|\.)(run|guide|init|init\.name)$")
"""Keys whose value is the name of a run: an identity is text, also one of digits only."""


class Strict(BaseModel):
    """Base of all configs: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def optional(default: Any, **about: Any) -> Any:
    """A field that is left out of dumps, and so of a run's identity, while it has its default value."""
    return Field(default, exclude_if=lambda value: value == default, **about)


def parse(model: type[C], values: Mapping[str, Any], where: str = "config") -> C:
    """Validates ``values`` as a config of type ``model``. Raises `UserError`, one line, at the first bad value."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(explain(error, model, where)) from None


def overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """``key=value`` words → nested dict; ``schedule=cascaded`` sets ``schedule.name``, ``runs`` sets ``runtime.runs``.

    A value is a list or mapping if it begins with a bracket, text if it begins with a quote, a number, true, false or
    null; any other is text as it was typed, such as the path ``a #1``, and so is the name of a run.

    Raises:
        UserError: a word without ``=`` or key, or brackets or quotes that are no YAML.
    """
    words = []
    for word in arguments:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UserError(f"'{word}': expected key=value")
        if _is_text(value) or (NAMES_RUN.search(key) and value[:1].isdigit()):
            value = json.dumps(value)
        if key.rpartition(".")[2] in NAMED and not value.startswith("{"):
            key += ".name"
        words.append(f"{'runtime.runs' if key == 'runs' else key}={value}")
    try:
        return dict(OmegaConf.to_container(OmegaConf.from_dotlist(words)))  # type: ignore[arg-type]
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{' '.join(arguments)}: {str(error).splitlines()[0]}") from None


def _is_text(value: str) -> bool:
    """Whether a value is meant as it was typed, also where YAML sees more in it, or nothing that it can read."""
    if not value or value[0] in "{[\"'":
        return False
    try:
        found = OmegaConf.from_dotlist([f"value={value}"])["value"]
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError, RecursionError):
        return True
    return not isinstance(found, bool | int | float) and value != "null"


def read_yaml(name: str, key: str) -> Any:
    """What the YAML file ``name`` holds. Raises `UserError`, which says ``key=name``, if it cannot be read."""
    try:
        return OmegaConf.to_container(OmegaConf.load(name))
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        said = getattr(error, "strerror", None) or getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{key}={name}: {said}") from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` overridden by ``over``, recursively; another plugin name drops the old plugin's parameters."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, str) and isinstance(value, Mapping):
            old = {"name": old}
        same = (
            isinstance(old, Mapping)
            and isinstance(value, Mapping)
            and value.get("name", old.get("name")) == old.get("name")
        )
        merged[key] = merge(old, value) if same else value  # type: ignore[arg-type]
    return merged


def flat(tree: Mapping[str, Any], prefix: str = "", named: bool = False) -> dict[str, Any]:
    """A nested config as dotted keys and values; the parts of a list by number, or if ``named`` by their ``name``."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
            value = {part.get("name", str(i)) if named else str(i): part for i, part in enumerate(value)}
        found |= flat(value, f"{prefix}{key}.", named) if isinstance(value, Mapping) else {prefix + key: value}
    return found


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """The first fault of a pydantic error as one line: key, value, what is allowed, and the nearest name."""
    fault = error.errors()[0]
    keys = [str(key) for key in fault["loc"]]
    if fault["type"] == "extra_forbidden":
        owner: Any = model
        for key in keys[:-1]:
            owner = owner.model_fields[key].annotation
        return f"{'.'.join([where, *keys])}: unknown key; {nearest(keys[-1], owner.model_fields)}"
    if fault["type"] == "missing":
        return f"{'.'.join([where, *keys])}: must be given"
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, Exception):  # raised by our own validators: already a full message
        return f"{'.'.join([where, *keys])}: {cause}" if keys else f"{where}: {cause}"
    if fault["type"] == "literal_error" and isinstance(fault["input"], str):
        allowed = re.findall(r"'([^']*)'", fault["ctx"]["expected"])
        return f"{'.'.join([where, *keys])}={fault['input']!r}: {nearest(fault['input'], allowed)}"
    return f"{'.'.join([where, *keys])}={fault['input']!r}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"
