"""Schedules by name: `create("cascaded", p_latent=0.4)`. A new one is a module and an entry point (`lf.schedules`)."""

from typing import Any

from lf.core.plugins import create as _create
from lf.core.plugins import defined, found
from lf.schedules.base import Schedule, Times

GROUP = "lf.schedules"


def create(name: str, **parameters: Any) -> Schedule:
    """Creates the schedule ``name``. Raises `UserError` for an unknown name or key, or a bad value."""
    return _create(GROUP, Schedule, name, **parameters)


def known(name: str) -> bool:
    """Whether a schedule of this name is installed, or defined in this process."""
    return name in found(GROUP) or name in defined(Schedule)


def names() -> list[str]:
    """Names of all installed schedules."""
    return sorted(found(GROUP))


__all__ = ["Schedule", "Times", "create", "known", "names"]
