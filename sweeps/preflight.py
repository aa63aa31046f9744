"""Checks before anything is submitted."""

import shutil
from pathlib import Path

import torch

from lf import data
from lf.config import Training
from lf.core.errors import UserError
from lf.model.denoiser import LatentForcing
from lf.schedules import Schedule
from lf.training.dry_run import one_step
from sweeps.cells import Launch
from sweeps.forecast import forecast_hours
from sweeps.plan import Plan

PATHS = 24  # most paths in the figure


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
    sizes, total, schedules = dict[tuple[str, ...], int](), 0, dict[str, tuple[Schedule, list[str]]]()
    for trained, cells in planned.trainings.items():
        training = trained.training
        for cell in cells:
            path = (cell.evaluation.path or training.schedule).over(training.stream_names)
            schedules.setdefault(path.model_dump_json(), (path, training.stream_names))
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
    _draw(list(schedules.values())[:PATHS], sweep / "paths.png")


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


def _draw(schedules: list[tuple[Schedule, list[str]]], file: Path) -> None:
    """Every path in the unit square of every two streams."""
    from matplotlib.figure import Figure  # imported here only: it takes a second

    panels = [(schedule, names, pair) for schedule, names in schedules for pair in schedule.pairs]
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
