"""A sweep as data: the cells of a question, what of them is done, and what it would take to do the rest."""

import importlib
import json
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pydantic import Field

import sweeps
from lf.config import Evaluation, Runtime, Strict, Training, merge, parse, preset
from lf.errors import UserError, nearest
from lf.runs import Run, TrainingRun, evaluation_run, training_run


@dataclass(frozen=True)
class Cell:
    """One evaluation of one training. ``labels`` say where it stands in the table (latent, path, alpha, seed, …)."""

    labels: Mapping[str, Any]
    training: Training
    evaluation: Evaluation

    @cached_property
    def trained(self) -> TrainingRun:
        """Where its training is."""
        return training_run(self.training)

    @cached_property
    def run(self) -> Run:
        """Where its evaluation is."""
        return evaluation_run(self.trained, self.evaluation)


class Launch(Strict):
    """What a sweep is launched with."""

    preset: str = "shapes"
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    training: dict[str, Any] = Field({}, description="changes to the preset's training; its keys may be given bare")
    evaluation: dict[str, Any] = Field({}, description="changes to the preset's evaluation")
    executor: Literal["auto", "local", "slurm"] = "auto"
    workers: int = Field(0, ge=0, description="jobs at a time; 0: one a core, or one with a GPU; 16 on slurm")
    slurm: dict[str, Any] = Field({}, description="parameters for submitit, such as slurm.slurm_partition=gpu")
    runtime: Runtime = Runtime()

    def train(self, **fixed: Any) -> Training:
        """The preset's training with the launch's changes and, over both, the cell's ``fixed`` values."""
        for key in fixed:
            if key in self.training and key != "seed":
                raise UserError(f"{key}: set by the sweep itself and cannot be given")
        values = merge(merge(preset(self.preset)["training"], self.training), fixed)
        return parse(Training, values | {"runtime": self.runtime}, "training")

    def evaluate(self, **fixed: Any) -> Evaluation:
        """The same for an evaluation."""
        values = merge(merge(preset(self.preset)["evaluation"], self.evaluation), fixed)
        return parse(Evaluation, values, "evaluation")


def questions() -> dict[str, Any]:
    """Every sweep by name: the modules of this package that have a function ``cells(launch)``."""
    names = [m.name for m in pkgutil.iter_modules(sweeps.__path__)]
    modules = {name: importlib.import_module(f"sweeps.{name}") for name in names if name not in ("launch", "plan")}
    return {name: module for name, module in modules.items() if hasattr(module, "cells")}


def question(name: str) -> Any:
    """The sweep's module. Raises `UserError` on an unknown name."""
    found = questions()
    if name not in found:
        raise UserError(f"unknown sweep '{name}'; {nearest(name, found)}")
    return found[name]


@dataclass
class Job:
    """What runs as one process: a training if one is needed, then all evaluations of it that are missing."""

    training: Training
    run: Run
    cells: list[Cell] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What it is, for a person."""
        labels = self.cells[0].labels
        return f"{labels['model']} {labels['latent']} seed {labels['seed']}"

    @property
    def missing(self) -> list[Cell]:
        """Cells that have no row yet."""
        return [cell for cell in self.cells if cell.run.row is None]


def jobs(cells: list[Cell]) -> list[Job]:
    """Cells grouped by the training they share."""
    found: dict[str, Job] = {}
    for cell in cells:
        found.setdefault(cell.trained.id, Job(cell.training, cell.trained)).cells.append(cell)
    return list(found.values())


def record(name: str, cells: list[Cell]) -> str:
    """The sweep's manifest: labels and both identities of each cell, as JSON."""
    rows = [
        {
            **cell.labels,
            "training_id": cell.trained.id,
            "evaluation_id": cell.run.id,
        }
        for cell in cells
    ]
    return json.dumps({"sweep": name, "cells": rows}, indent=1)


def why_new(run: Run) -> str:
    """The fields that tell ``run`` from the nearest run in the store, or that there is none."""
    mine = dict(_flat(run.config))
    nearest_change: list[str] | None = None
    for file in run.folder.parent.glob("*/config.json"):
        if file.parent == run.folder:  # begun already: what made it new is what tells it from the others
            continue
        other = dict(_flat(json.loads(file.read_text())))
        change = [
            f"{k} {other.get(k)}→{mine.get(k)}" for k in sorted(mine.keys() | other) if other.get(k) != mine.get(k)
        ]
        if nearest_change is None or len(change) < len(nearest_change):
            nearest_change = change
    if nearest_change is None:
        return "first run in this store"
    return ", ".join(nearest_change[:3]) + (f" and {len(nearest_change) - 3} more" if len(nearest_change) > 3 else "")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield from _flat({str(i): v for i, v in enumerate(value)}, f"{prefix}{key}.")
        else:
            yield prefix + key, json.dumps(value) if isinstance(value, list) else value


def rates(runs: Path) -> dict[str, Any]:
    """Median seconds a training step and an evaluated image took: in this store, else in the committed results.

    Returns:
        ``step``, ``image`` and ``source``; empty where nothing was measured yet.
    """
    committed = Path(__file__).parents[1] / "results"
    for source in (runs, committed):
        files = [
            *source.glob("training/*/row.json"),
            *source.glob("evaluation/*/row.json"),
            *source.glob("*/rows.jsonl"),
        ]
        rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        steps = [row["seconds_per_step"] for row in rows if row.get("seconds_per_step")]
        images = [row["seconds"] / row["n"] for row in rows if row.get("n") and row.get("seconds")]
        if steps and images:
            return {"step": median(steps), "image": median(images), "source": source.name + "/"}
    return {}
