"""Checks before anything is submitted."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from analysis.protocol import comparable
from analysis.results import BUDGET, GIVEN, PROTOCOL
from lf import data, schedules
from lf.config import Evaluation, Training
from lf.core.errors import UserError
from lf.core.plugins import check_name
from lf.model.denoiser import LatentForcing
from lf.schedules import Schedule
from lf.training.dry_run import one_step
from sweeps.cells import Cell, Launch
from sweeps.forecast import forecast_hours
from sweeps.plan import Plan

PATHS = 24  # most paths in the figure


def checked(name: str, cells: Sequence[Cell]) -> None:
    """Checks that the cells of a question can be told apart and may share a table, before any is computed.

    Raises:
        UserError: there is none, a label is no word or number, labels are equal, or protocols or budgets differ
            (`comparable`).
    """
    if not cells:
        raise UserError(f"{name}: has no cells")
    rows, known = [], dict[str, None]()
    budgets: dict[int, str] = {}
    for cell in cells:
        labels, asked = cell.all_labels, cell.evaluation.model_dump(mode="json")
        bad = [key for key, value in labels.items() if not isinstance(value, str | int | float | None)]
        if bad:
            what = f"label {bad[0]}={labels[bad[0]]!r}: must be a word or a number"
            raise UserError(f"{name}: cell '{cell.title}': {what}")
        known |= dict.fromkeys(labels)
        protocol = {key: asked[key] for key in (*PROTOCOL, *GIVEN, "features", "reference") if key in asked}
        of = id(cell.training)
        if of not in budgets:
            trained = cell.training.model_dump(mode="json", include=set(BUDGET))
            budgets[of] = json.dumps(trained, sort_keys=True)
            check_name(schedules.GROUP, cell.training.schedule)
        if cell.evaluation.path:
            check_name(schedules.GROUP, cell.evaluation.path)
        told = json.dumps(protocol | {"data": cell.training.data}, sort_keys=True)
        rows.append(labels | {"title": cell.title, "protocol": told, "budget": budgets[of]})
    frame = pd.DataFrame(rows)
    alike = frame[frame.duplicated([*known])]
    if len(alike):
        raise UserError(f"{name}: two cells have the labels '{alike.title.iloc[0]}'; add one that tells them apart")
    frame.attrs = {"sweep": name, "labels": [*known]}
    comparable(frame)


def fitted(cells: Sequence[Cell], launch: Launch) -> tuple[list[Cell], int]:
    """The cells, with as many steps of sampling as the paths of all can be divided into, and this number.

    Only the preset's number of steps is changed, not one that the launch or the question gives.
    """
    usual = launch.evaluate().steps
    some = [cell for cell in cells if cell.evaluation.steps == usual and "steps" not in launch.evaluation]
    steps, more = usual, 0
    while some and (more := max(_steps(cell, steps) for cell in some)) > steps:
        steps = more
    changed = {id(cell): replace(cell, evaluation=_with(cell.evaluation, steps)) for cell in some if steps > usual}
    return [changed.get(id(cell), cell) for cell in cells], steps


def _with(evaluation: Evaluation, steps: int) -> Evaluation:
    return evaluation.model_copy(update={"steps": steps})


def _steps(cell: Cell, least: int) -> int:
    return _with(cell.evaluation, least).fitted(cell.training).steps


def preflight(planned: Plan, launch: Launch, sweep: Path) -> None:
    """Checks a plan on this machine: schedules, encoders, one step of each network, disk, budget. Draws the paths.

    Raises:
        UserError: the first check that fails.
    """
    hours = forecast_hours(planned, launch)
    if launch.budget_hours and hours is None:
        raise UserError(f"budget_hours={launch.budget_hours:g}: no forecast is possible, nothing was measured yet")
    if launch.budget_hours and hours is not None and hours > launch.budget_hours:
        raise UserError(f"budget_hours={launch.budget_hours:g}: the forecast is {hours:.3g} worker hours")
    sizes, total, paths = dict[tuple[str, ...], int](), 0, dict[str, tuple[Schedule, list[str]]]()
    for trained, cells in planned.trainings.items():
        training = trained.training
        for cell in cells:
            path = (cell.evaluation.path or training.schedule).over(training.stream_names)
            paths.setdefault(path.model_dump_json(), (path, training.stream_names))
        if trained.row is not None:
            continue
        parts = (training.data, training.network, training.schedule.name, training.latents, training.repa)
        kind = tuple(str(part) for part in parts)
        if kind not in sizes:
            sizes[kind] = _check_step(training)
        total += sizes[kind]
    sweep.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(sweep).free
    if 2 * total > free:  # the last and the previous checkpoint
        raise UserError(f"{sweep}: the checkpoints need {2 * total / 2**30:.1f} GiB and {free / 2**30:.1f} are free")
    _draw(list(paths.values())[:PATHS], sweep / "paths.png")


def _check_step(training: Training) -> int:
    """Executes one step of a training, with random latents; returns the bytes of its checkpoint."""
    for encoder in training.encoders:
        encoder.check()
    _check_schedule(training.schedule)
    images = data.open(training.data, training.resolution, training.runtime.cache, training.runtime.limit_damaged)
    with torch.random.fork_rng(devices=[]):
        model = LatentForcing(training, len(images.classes))
        one_step(training, model, images, encode=False)
    return sum(p.numel() for p in model.parameters()) * 4 * (3 + len(training.ema))


def _check_schedule(schedule: Schedule) -> None:
    """Minimal contract of a schedule; `lf.schedules.conformance` tests all of it."""
    t, weight = schedule.sample(256, generator=torch.Generator().manual_seed(0))
    if t.shape != (256, schedule.streams) or weight.shape != t.shape:
        raise UserError(f"schedule={schedule.name}: sample gives {tuple(t.shape)}, not (256, {schedule.streams})")
    if not (t.isfinite().all() and t.min() >= 0 and t.max() <= 1 and weight.isfinite().all() and weight.min() >= 0):
        raise UserError(f"schedule={schedule.name}: sample gives times outside [0, 1] or weights below 0")
    if schedule.has_path:
        path = schedule.path(schedule.steps_from(12 * schedule.streams))
        if (path.diff(dim=0) < 0).any() or path[0].any():
            raise UserError(f"schedule={schedule.name}: its path must start at 0 and never run backwards")


def _draw(paths: list[tuple[Schedule, list[str]]], file: Path) -> None:
    """Every path in the unit square of every two streams."""
    from matplotlib.figure import Figure  # imported here only: it takes a second

    panels = [(schedule, names, pair) for schedule, names in paths for pair in schedule.pairs]
    columns = min(6, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (schedule, names, pair) in zip(axes.flat, panels, strict=False):
        ax.set_axis_on()
        values = schedule.model_dump()
        parameters = [f"{k} {v:.3g}" for k, v in values.items() if k in ("alpha", "offset")]
        title = " ".join([schedule.name, *parameters, " → ".join(map(" ".join, values.get("order", ())))]).strip()
        schedule.plot(ax, steps=20 * schedule.streams, n=500, title=title, pair=pair, names=names)
    figure.savefig(file, dpi=110)
