"""Schedules by name. `create("cascaded", p_latent=0.4)`; a new one is a file and an entry point (`lf.schedules`)."""

from typing import Any

from lf.plugins import create as _create
from lf.plugins import found
from lf.schedules.base import Schedule, Times

GROUP = "lf.schedules"


def create(name: str, **parameters: Any) -> Schedule:
    """The schedule ``name``. Raises `UserError` on an unknown name, key or value."""
    return _create(GROUP, name, **parameters)


def names() -> list[str]:
    """All schedules that are installed."""
    return sorted(found(GROUP))


__all__ = ["Schedule", "Times", "create", "names"]
