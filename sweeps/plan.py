"""A sweep as data: the cells of a question, what of them is done, and what it would take to do the rest."""

import importlib.util
import json
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

import sweeps
from lf.config import Evaluation, Runtime, Strict, Training, merge, parse, preset
from lf.encoders import Encoder
from lf.errors import UserError, nearest
from lf.presets import ABLATION, GUIDED, MODELS, SMOKE
from lf.runs import Run, TrainingRun, evaluation_run, training_run
from sweeps.cluster import Cluster
from sweeps.queue import Chain
from sweeps.state import entry
from sweeps.work import Unit


@dataclass(frozen=True)
class Cell:
    """One evaluation of one training. ``labels`` say where it stands in the table (latent, path, alpha, seed, …)."""

    labels: Mapping[str, Any]
    training: Training
    evaluation: Evaluation

    @property
    def title(self) -> str:
        """What it is, for a person."""
        return titled(self.labels)

    @cached_property
    def trained(self) -> TrainingRun:
        """Where its training is."""
        return training_run(self.training)

    @cached_property
    def run(self) -> Run:
        """Where its evaluation is."""
        return evaluation_run(self.trained, self.evaluation)


def titled(labels: Mapping[str, Any]) -> str:
    """Labels as a title: ``independent tiny shifted alpha 4 seed 0``."""
    named = (
        f"{k} {v:g}" if isinstance(v, float) else f"seed {v}" if k == "seed" else str(v) for k, v in labels.items()
    )
    return " ".join(named)


def _seeds(value: Any) -> Any:
    first, dash, last = str(value).partition("-")
    return tuple(range(int(first), int(last) + 1)) if dash and first.isdigit() and last.isdigit() else value


Seeds = Annotated[tuple[int, ...], BeforeValidator(_seeds)]


class Launch(Strict):
    """What a sweep is launched with."""

    preset: str = "shapes"
    seeds: Seeds = Field((0,), min_length=1, description="[0,1,2], or 0-99 for a hundred")
    training: dict[str, Any] = Field({}, description="changes to the preset's training; its keys may be given bare")
    evaluation: dict[str, Any] = Field({}, description="changes to the preset's evaluation")
    guide: str = Field("", description="a weaker network's run, for AutoGuidance where the paper uses it; else CFG")
    executor: Literal["auto", "local", "slurm"] = "auto"
    workers: int = Field(0, ge=0, description="jobs at a time on this machine; 0: one a core, or one with a GPU")
    cluster: dict[str, Any] = Field({}, description="values over cluster.toml's, such as cluster.train.nodes=2")
    budget: Literal["normal", "smoke"] = Field("normal", description="smoke: a few steps and images, to see it run")
    budget_hours: float = Field(0, ge=0, description="refuse to start what is forecast to take more; 0: no limit")
    runtime: Runtime = Runtime()

    @cached_property
    def resolved(self) -> Runtime:
        """The preset's runtime with what was given over it."""
        given = self.runtime.model_dump(include=self.runtime.model_fields_set)
        given = ({"compile": False} if self.budget == "smoke" else {}) | given
        return parse(Runtime, merge(preset(self.preset)["training"].get("runtime", {}), given), "runtime")

    def train(self, called: Mapping[str, Any] | None = None, /, **fixed: Any) -> Training:
        """The preset's training; over it what is ``called`` so, the launch's changes, and the ``fixed`` values."""
        if clash := next(_clashes(self.training, fixed), ""):
            raise UserError(f"{clash}: set by the sweep itself and cannot be given")
        values = merge(merge(merge(self._base("training"), called or {}), self.training), fixed)
        training = parse(Training, values | {"runtime": self.resolved}, "training")
        if self.budget == "smoke":  # an encoder that is trained first is trained as shortly
            latents = tuple(_quick(encoder, training.steps) for encoder in training.latents)
            repa = training.repa and _quick(training.repa, training.steps)
            training = training.model_copy(update={"latents": latents, "repa": repa})
        return training

    def model(self, name: Literal["jit", "repa", "lf"], times: float | None = None, **fixed: Any) -> Training:
        """The same for what the preset calls JiT, JiT+REPA or LF (`lf.presets.MODELS`).

        Args:
            name: which of the three.
            times: length, in steps of the preset; by default an ablation's (`lf.presets.ABLATION`). A shorter training
                than the preset's warms up, and averages its weights, over as large a share of it.
            fixed: values of the cell.
        """
        if self.preset not in MODELS:
            raise UserError(f"preset={self.preset}: this question knows {nearest(self.preset, MODELS)}")
        training = self.train(MODELS[self.preset][name], **fixed)
        times = ABLATION[self.preset] if times is None else times
        changes: dict[str, Any] = {"steps": round(times * training.steps)}
        if times < 1:
            ema = tuple(round(decay ** (1 / times), 6) for decay in training.ema)
            changes |= {"warmup": round(times * training.warmup), "ema": ema}
        return training.model_copy(update=changes)

    def scored(self, labels: Mapping[str, Any], training: Training, **fixed: Any) -> Iterator[Cell]:
        """Two cells of a training: unguided and, where labels or a guide make a difference, guided (`GUIDED`)."""
        names, known = [stream.name for stream in training.streams], GUIDED[self.preset]
        how = known.get(" ".join(names), known[""])
        if how["kind"] == "autoguidance":
            how = how | {"guide": self.guide} if self.guide else known[""]
        how = how | {key: dict.fromkeys(names, how[key]) for key in how.keys() & {"scale", "interval"}}
        for guidance in ({"kind": "none"}, how):
            if guidance["kind"] == "cfg" and training.label_dropout == 1:
                continue  # its two passes would be one and the same
            evaluation = self.evaluate(guidance=guidance, **fixed)
            yield Cell({**labels, "guidance": guidance["kind"], "seed": training.seed}, training, evaluation)

    def placed(self, profile: Cluster) -> "Launch":
        """The same launch where a cluster's profile has its run store and its data."""
        changes: dict[str, Any] = {"runtime": profile.placed(self.runtime)}
        if self.training.get("data") in profile.data:
            changes["training"] = {**self.training, "data": profile.data[self.training["data"]]}
        return self.model_copy(update=changes)

    def evaluate(self, **fixed: Any) -> Evaluation:
        """The same for an evaluation."""
        values = merge(merge(self._base("evaluation"), self.evaluation), fixed)
        return parse(Evaluation, values, "evaluation")

    def _base(self, part: Literal["training", "evaluation"]) -> dict[str, Any]:
        return merge(preset(self.preset)[part], SMOKE[part] if self.budget == "smoke" else {})


def questions() -> dict[str, Any]:
    """Every sweep by name: the modules of this package that have a function ``cells(launch)``."""
    names = [m.name for m in pkgutil.iter_modules(sweeps.__path__)]
    modules = {name: importlib.import_module(f"sweeps.{name}") for name in names if name not in ("launch", "plan")}
    return {name: module for name, module in modules.items() if hasattr(module, "cells")}


def question(name: str) -> tuple[str, Any]:
    """A sweep's name and module: one of this package, or a file of your own, ``my_sweep.py``.

    Raises:
        UserError: unknown name, or a file that is no sweep.
    """
    if name.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(name).stem, name)
        if spec is None or spec.loader is None or not Path(name).is_file():
            raise UserError(f"{name}: no such file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if not hasattr(module, "cells"):
            raise UserError(f"{name}: a sweep is a module with a function cells(launch)")
        return Path(name).stem, module
    found = questions()
    if name not in found:
        raise UserError(f"unknown sweep '{name}'; {nearest(name, found)}; or a file of your own, my_sweep.py")
    return name, found[name]


@dataclass(frozen=True)
class Plan:
    """What a launch has to do.

    Attributes:
        trainings: every training and its cells.
        chains: the same as units of work, done or not.
        steps, images: what is missing, in all.
    """

    trainings: dict[TrainingRun, list[Cell]]
    chains: list[Chain]
    steps: int
    images: int

    def manifest(self, cells: Iterable[Cell]) -> dict[str, Any]:
        """The units of this plan and all cells of its sweep, as JSON: what any process needs to tell its state."""
        units = []
        for chain in self.chains:
            for unit in chain.units:
                rows = [f"{run.folder.parent.name}/{run.id}/row.json" for run in unit.runs]
                after = chain.train.key if chain.train and unit is not chain.train else ""
                units.append(entry(unit, unit.trained.id, rows, after))
        told = [
            {**cell.labels, "title": cell.title, "training_id": cell.trained.id, "evaluation_id": cell.run.id}
            for cell in cells
        ]
        return {"cells": told, "units": units}


def plan(cells: Iterable[Cell], runtime: Runtime, evaluations: int = 0) -> Plan:
    """Groups cells by the training they share, and tells what of them is missing.

    Args:
        cells: the cells of a sweep.
        runtime: what the units run with.
        evaluations: evaluations in one unit; 0: all of a training.
    """
    trainings: dict[TrainingRun, list[Cell]] = {}
    for cell in cells:
        trainings.setdefault(cell.trained, []).append(cell)
    chains, steps, images = [], 0, 0
    for trained, some in trainings.items():
        training = trained.training.model_copy(update={"runtime": runtime})
        missing = [cell for cell in some if cell.run.row is None]
        shared = {key: value for key, value in some[0].labels.items() if all(c.labels.get(key) == value for c in some)}
        chain = Chain(Unit(training, (), titled(shared)))
        share = evaluations or len(some)
        for start in range(0, len(some), share):  # all of them, done or not: a unit keeps its name
            part = some[start : start + share]
            title = part[0].title if len(part) == 1 else f"{titled(shared)}, {len(part)} paths"
            chain.evaluations.append(Unit(training, tuple(cell.evaluation for cell in part), title))
        steps += training.steps if trained.row is None else 0
        images += sum(cell.evaluation.n for cell in missing)
        chains.append(chain)
    return Plan(trainings, chains, steps, images)


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


def _quick(encoder: Encoder, steps: int) -> Encoder:
    """The encoder, and one that it is aligned to, trained for ``steps`` steps if it has to be trained."""
    aligned = getattr(encoder, "align", None)
    changes: dict[str, Any] = {"align": _quick(aligned, steps)} if aligned else {}
    return encoder.model_copy(update=changes | ({"steps": steps} if "steps" in type(encoder).model_fields else {}))


def _clashes(given: Mapping[str, Any], fixed: Mapping[str, Any]) -> Iterator[str]:
    """Keys that both set, to different values."""
    for key in given.keys() & fixed.keys():
        if isinstance(given[key], Mapping) and isinstance(fixed[key], Mapping):
            yield from (f"{key}.{below}" for below in _clashes(given[key], fixed[key]))
        elif given[key] != fixed[key]:
            yield key


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield from _flat({str(i): v for i, v in enumerate(value)}, f"{prefix}{key}.")
        else:
            yield prefix + key, json.dumps(value) if isinstance(value, list) else value


def forecast_hours(planned: Plan, launch: Launch) -> float | None:
    """Hours that one worker would take; None where nothing was measured yet."""
    cost = rates(Path(launch.runtime.runs))
    return (planned.steps * cost["step"] + planned.images * cost["image"]) / 3600 if cost else None


def forecast(planned: Plan, launch: Launch) -> str:
    """The forecast as part of a sentence."""
    cost, hours = rates(Path(launch.runtime.runs)), forecast_hours(planned, launch)
    if hours is None:
        return ""
    took = f"{hours * 60:.0f} min" if hours < 3 else f"{hours:,.0f} hours"
    return (
        f": about {took} of one worker ({cost['step']:.3f} s a step, {cost['image']:.3f} s an image: {cost['source']})"
    )


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
