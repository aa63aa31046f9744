"""`order_ablation` in a small size: its words, and what is in its run store."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console
from toy import PLAIN, WORDS, files

from analysis import report, results
from lf import metrics
from sweeps import launch
from sweeps.cells import Cell, Launch
from sweeps.questions import order_ablation

NAME = "order_ablation"
CELLS = 18  # two latents along 8 paths each, and two models trained for one order
SWEEP = [NAME, *WORDS, *PLAIN, "evaluation.n=32", "evaluation.steps=4", "workers=2"]


def rows(store: Path, kind: str = "evaluation") -> dict[str, dict[str, object]]:
    return {file.parent.name: json.loads(file.read_text()) for file in (store / kind).glob("*/row.json")}


def scores(store: Path) -> dict[str, tuple[object, ...]]:
    return {name: (row["fd"], row["class_accuracy"], row["real_fd"]) for name, row in rows(store).items()}


def runs_of(store: Path) -> dict[str, tuple[int, bytes]]:
    return {f"{kind}/{name}": file for kind in ("training", "evaluation") for name, file in files(store / kind).items()}


def table_of(store: Path, sweep: str = NAME, width: int = 80) -> str:
    """The table that a launch ends with."""
    said = io.StringIO()
    for block in report.printed(results.load(sweep, store), width)[0]:
        Console(width=width, file=said).print(block, "", width=width, highlight=False)
    return said.getvalue()


def settings_of(store: Path) -> Launch:
    return launch.settings([*SWEEP[1:], f"runtime.runs={store}"])


def cells_of(store: Path) -> list[Cell]:
    return list(order_ablation.cells(settings_of(store)))


@contextmanager
def quick() -> Iterator[None]:
    """Makes all that must be fitted once quick to fit, in this process; and lines long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(metrics.RECIPE, "steps", 5)
        latents = ({"name": "pixels", "cells": 2}, {"name": "tiny", "steps": 5, "width": 8})
        patch.setitem(order_ablation.LATENTS, "shapes", latents)
        patch.setattr(launch, "console", Console(width=300))
        yield
