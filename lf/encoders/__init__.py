"""Encoders by name. A new one is a file and an entry point (`lf.encoders`)."""

from typing import Annotated, Any

from pydantic import SerializeAsAny

from lf.encoders.base import Codec, Encode, Encoder
from lf.errors import UserError
from lf.plugins import by_name, found
from lf.plugins import create as _create

GROUP = "lf.encoders"


def create(name: str, **parameters: Any) -> Encoder:
    """The encoder ``name``; ``timm:NAME`` is short for ``timm`` with ``model=NAME``.

    Raises:
        UserError: unknown name, key or value; two models.
    """
    name, colon, model = str(name).partition(":")
    if colon and parameters.setdefault("model", model) != model:
        raise UserError(f"{name}.model={parameters['model']}: '{name}:{model}' names another model")
    return _create(GROUP, name, **parameters)


def names() -> list[str]:
    """All encoders that are installed."""
    return sorted(found(GROUP))


AnyEncoder = Annotated[SerializeAsAny[Encoder], by_name(create)]
"""A field of a config that names an encoder."""

__all__ = ["AnyEncoder", "Codec", "Encode", "Encoder", "create", "names"]
