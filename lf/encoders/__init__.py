"""Encoders by name. A new one is a file and an entry point (`lf.encoders`)."""

from typing import Any

from lf.encoders.base import Encode, Encoder
from lf.plugins import create as _create
from lf.plugins import found

GROUP = "lf.encoders"


def create(name: str, **parameters: Any) -> Encoder:
    """The encoder ``name``. Raises `UserError` on an unknown name, key or value."""
    return _create(GROUP, name, **parameters)


def names() -> list[str]:
    """All encoders that are installed."""
    return sorted(found(GROUP))


__all__ = ["Encode", "Encoder", "create", "names"]
