"""The paper's questions, one module each, by name; and your own questions, by file."""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from lf.core.errors import UserError, nearest
from lf.core.plugins import from_file


def questions() -> dict[str, Any]:
    """Every question's module by name. Each has a docstring and a function ``cells(launch)``."""
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names()}


def names() -> list[str]:
    """The questions' names; no module is imported."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def question(name: str) -> tuple[str, Any]:
    """A sweep's name and module: one of this package, or your own file, ``my_sweep.py``.

    Raises:
        UserError: unknown name, no such file, or a file without ``cells(launch)``.
    """
    if name.endswith(".py"):
        module = from_file(Path(name))
        if module is None:
            raise UserError(f"{name}: no such file")
        if not hasattr(module, "cells"):
            raise UserError(f"{name}: a sweep is a module with a function cells(launch)")
        return Path(name).stem, module
    if name not in names():
        raise UserError(f"unknown sweep '{name}'; {nearest(name, names())}; or a file of your own, my_sweep.py")
    return name, importlib.import_module(f"{__name__}.{name}")
