"""Encoders by name. A new one is a module and an entry point (`lf.encoders`)."""

from typing import Annotated, Any

from pydantic import SerializeAsAny

from lf.core.errors import UserError
from lf.core.plugins import by_name, found
from lf.core.plugins import create as _create
from lf.encoders.base import Codec, Encode, Encoder

GROUP = "lf.encoders"


def create(name: str, **parameters: Any) -> Encoder:
    """Creates the encoder ``name``; ``timm:NAME`` is short for ``timm`` with ``model=NAME``.

    Raises:
        UserError: an unknown name or key, a bad value, or two different models.
    """
    name, colon, model = str(name).partition(":")
    if colon and parameters.setdefault("model", model) != model:
        raise UserError(f"{name}.model={parameters['model']}: '{name}:{model}' names another model")
    return _create(GROUP, Encoder, name, **parameters)


def names() -> list[str]:
    """Names of all installed encoders."""
    return sorted(found(GROUP))


AnyEncoder = Annotated[SerializeAsAny[Encoder], by_name(create)]
"""A field of a config that names an encoder."""

__all__ = ["AnyEncoder", "Codec", "Encode", "Encoder", "create", "names"]
