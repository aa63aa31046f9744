"""Plugins by name: a config can name any plugin that an installed package declares as an entry point, and any class
that this process has defined, such as one in a question's file.

A plugin is a frozen pydantic model: its fields are its parameters. It validates them, and together with
``name`` they are its identity.
"""

import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
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


def from_file(file: Path) -> ModuleType | None:
    """The module in a Python file outside of any package, run anew; None if there is no such file."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None or not file.is_file():
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_name(group: str, plugin: Plugin) -> None:
    """Raises `UserError` if the name of a class that is not installed is one of an installed plugin."""
    if plugin.name in found(group) and (known := found(group)[plugin.name].load()) is not type(plugin):
        raise UserError(f"{type(plugin).__name__}: name '{plugin.name}' is taken by {known.__module__}; choose another")


def defined(base: type[Plugin]) -> dict[str, type[Plugin]]:
    """The classes of this process that derive from ``base`` and set a ``name``, by it; the last one of each."""
    classes: dict[str, type[Plugin]] = {}
    for child in base.__subclasses__():
        name = child.model_fields["name"].default
        classes |= {**({name: child} if isinstance(name, str) else {}), **defined(child)}
    return classes


def create(group: str, base: type[Plugin], name: str, **parameters: Any) -> Any:
    """Creates the plugin ``name`` of ``group`` with ``parameters``.

    Args:
        group: of the entry points.
        base: base class of the plugins.
        name: an installed plugin, or a class that this process has defined.
        parameters: its fields.

    Raises:
        UserError: unknown name, unknown parameter or a value out of range, in one line.
    """
    name = str(name)
    if name in found(group):
        plugin = found(group)[name].load()
    elif name not in (own := defined(base)):
        raise UserError(f"{group}: unknown name '{name}'; {nearest(name, {*found(group), *own})}")
    else:
        plugin = own[name]
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
