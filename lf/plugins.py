"""Plugins by name: what a package declares as an entry point can be asked for in a config.

A plugin is a frozen pydantic model: its fields are its parameters, validated by itself, and with its
``name`` they are its whole identity.
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from lf.errors import UserError, nearest


class Plugin(BaseModel):
    """Base of every plugin. ``name`` is a ``Literal`` field equal to the entry point's name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    name: str


@cache
def found(group: str) -> dict[str, Any]:
    """Entry points of ``group`` by name, not yet imported."""
    return {point.name: point for point in entry_points(group=group)}


def create(group: str, name: str, **parameters: Any) -> Any:
    """The plugin ``name`` of ``group`` with ``parameters``.

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
    """Lets a config name a plugin: ``cascaded`` or ``{name: cascaded, p_latent: 0.4}``."""

    def build(value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        return create(**value) if isinstance(value, Mapping) and "name" in value else value

    return BeforeValidator(build)


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """The first fault of a pydantic error as one line: key, value, what is allowed, nearest name."""
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
    if isinstance(cause, Exception):  # raised by a validator of ours, already a full sentence
        return f"{'.'.join([where, *keys])}: {cause}" if keys else f"{where}: {cause}"
    return f"{'.'.join([where, *keys])}={fault['input']!r}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"
