"""Values from words and files: nested, typed, refused in one line. Imports nothing that takes long."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError

from lf.errors import UserError
from lf.plugins import explain

C = TypeVar("C", bound=BaseModel)


class Strict(BaseModel):
    """Base of all configs: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def parse(model: type[C], values: Mapping[str, Any], where: str = "config") -> C:
    """A config of type ``model``. Raises `UserError`, one line, on the first fault."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(explain(error, model, where)) from None


def overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """``key=value`` words → nested values, typed as YAML; ``schedule=cascaded`` is short for its name."""
    words = []
    for word in arguments:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UserError(f"'{word}': expected key=value")
        if key.rpartition(".")[2] in ("schedule", "path", "tokenizer") and not value.startswith("{"):
            word = f"{key}.name={value}"
        words.append(word)
    try:
        return dict(OmegaConf.to_container(OmegaConf.from_dotlist(words)))  # type: ignore[arg-type]
    except OmegaConfBaseException as error:
        raise UserError(f"{' '.join(arguments)}: {str(error).splitlines()[0]}") from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` on top of ``base``; naming another plugin drops the old one's parameters."""
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
