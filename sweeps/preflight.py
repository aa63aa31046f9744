"""What can go wrong is looked for before anything is submitted."""

import shutil
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot as plt

from lf import data
from lf.config import Training
from lf.denoiser import LatentForcing
from lf.errors import UserError
from lf.recipe import one_step
from lf.schedules import Schedule
from sweeps.plan import Launch, Plan, forecast_hours

PATHS = 24  # paths that are drawn


def preflight(planned: Plan, launch: Launch, sweep: Path) -> None:
    """Checks a plan on this machine: schedules, encoders, one step of every kind of network, disk, budget; draws paths.

    Raises:
        UserError: the first thing that would fail later.
    """
    hours = forecast_hours(planned, launch)
    if launch.budget_hours and hours is None:
        raise UserError(f"budget_hours={launch.budget_hours:g}: nothing was measured yet that a forecast could rest on")
    if launch.budget_hours and hours is not None and hours > launch.budget_hours:
        raise UserError(f"budget_hours={launch.budget_hours:g}: the forecast is {hours:.3g} hours of one worker each")
    sizes, total, schedules = dict[tuple[str, ...], int](), 0, dict[str, Schedule]()
    for trained, cells in planned.trainings.items():
        training = trained.training
        for cell in cells:
            path = cell.evaluation.path or training.schedule
            schedules.setdefault(path.model_dump_json(), path.over(len(training.streams)))
        if trained.row is not None:
            continue
        parts = (training.data, training.network, training.schedule.name, training.latents, training.repa)
        alike = tuple(str(part) for part in parts)
        if alike not in sizes:
            sizes[alike] = _tried(training)
        total += sizes[alike]
    sweep.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(sweep).free
    if 2 * total > free:  # the last checkpoint and the one before
        raise UserError(f"{sweep}: the checkpoints need {2 * total / 2**30:.1f} GiB and {free / 2**30:.1f} are free")
    _draw(list(schedules.values())[:PATHS], sweep / "paths.png")


def _tried(training: Training) -> int:
    """Makes one step of a training with random latents; returns the bytes of its checkpoint."""
    for encoder in training.encoders:
        encoder.check()
    _keeps_its_contract(training.schedule)
    images = data.open(training.data, training.resolution, training.runtime.cache)
    with torch.random.fork_rng(devices=[]):
        model = LatentForcing(training, len(images.classes))
        one_step(training, model, images, encode=False)
    return sum(p.numel() for p in model.parameters()) * 4 * (3 + len(training.ema))


def _keeps_its_contract(schedule: Schedule) -> None:
    """The least that a schedule owes; `lf.schedules.conformance` asks for all of it."""
    t, weight = schedule.sample(256, generator=torch.Generator().manual_seed(0))
    if t.shape != (256, schedule.streams) or weight.shape != t.shape:
        raise UserError(f"schedule={schedule.name}: sample gives {tuple(t.shape)}, not (256, {schedule.streams})")
    if not (t.isfinite().all() and t.min() >= 0 and t.max() <= 1 and weight.isfinite().all() and weight.min() >= 0):
        raise UserError(f"schedule={schedule.name}: sample gives times outside [0, 1] or weights below 0")
    if schedule.has_path:
        path = schedule.path(12 * schedule.streams)
        if (path.diff(dim=0) < 0).any() or path[0].any():
            raise UserError(f"schedule={schedule.name}: its path must start at 0 and never run backwards")


def _draw(schedules: list[Schedule], file: Path) -> None:
    """Every path in the unit square."""
    columns = min(6, len(schedules))
    rows = -(-len(schedules) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.2 * columns, 2.3 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, schedule in zip(axes.flat, schedules, strict=False):
        ax.set_axis_on()
        told = [f"{k} {v:.3g}" for k, v in schedule.model_dump().items() if k in ("alpha", "offset")]
        schedule.plot(ax, steps=20 * schedule.streams, n=500, title=" ".join([schedule.name, *told]))
    figure.savefig(file, dpi=110)
    plt.close(figure)
