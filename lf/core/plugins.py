"""Plugins by name: a config can name any plugin that an installed package declares as an entry point.

A plugin is a frozen pydantic model: its fields are its parameters. It validates them, and together with
``name`` they are its identity.
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from lf.core.errors import UserError, nearest
from lf.core.parsing import explain


class Plugin(BaseModel):
    """Base of every plugin. ``name`` is a ``Literal`` field equal to the entry point's name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    name: str


@cache
def found(group: str) -> dict[str, Any]:
    """Entry points of ``group`` by name; nothing is imported."""
    return {point.name: point for point in entry_points(group=group)}


def create(group: str, name: str, **parameters: Any) -> Any:
    """Creates the plugin ``name`` of ``group`` with ``parameters``.

    Raises:
        UserError: unknown name, unknown parameter or a value out of range, in one line.
    """
    name = str(name)
    if name not in found(group):
        raise UserError(f"{group}: unknown name '{name}'; {nearest(name, found(group))}")
    plugin = found(group)[name].load()
    try:
        return plugin(**parameters)
    except ValidationError as error:
        raise UserError(explain(error, plugin, where=name)) from None


def by_name(create: Callable[..., Any]) -> BeforeValidator:
    """A validator for a config field that holds a plugin: ``cascaded`` or ``{name: cascaded, p_latent: 0.4}``."""

    def build(value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        return create(**value) if isinstance(value, Mapping) and "name" in value else value

    return BeforeValidator(build)
