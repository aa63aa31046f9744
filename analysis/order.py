"""Figures of schedules: where they train, the path they follow, and each stream's signal-to-noise ratio on the way."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure

from analysis.results import configs
from analysis.tables import path_label
from lf import schedules
from lf.flow import snr
from lf.schedules import Schedule

STYLES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX*"
SHOWN = 12  # schedules in one figure
INSIDE = slice(1, -1)  # at the ends of a path the ratio is 0 or infinite


def subplots(rows: int, columns: int, size: tuple[float, float], **shared: Any) -> tuple[Figure, Any]:
    """A figure and its axes ``[row][column]``; not pyplot's, which keeps every figure until it is closed."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def trained(frame: pd.DataFrame, runs: Path | None) -> dict[str, Schedule]:
    """The different schedules that the cells of the first seed were trained with, by what tells them apart."""
    return _named(_settings(frame, runs, "training.schedule."))


def followed(frame: pd.DataFrame, runs: Path | None) -> dict[str, Schedule]:
    """The different paths that the cells of the first seed were sampled along."""
    found = _settings(frame, runs, "evaluation.path.")
    if not found and {"path", "alpha"} <= {*frame}:  # rows that were exported without their configs
        pairs = frame[["path", "alpha"]].drop_duplicates().itertuples(index=False)
        found = [{"name": p} if math.isnan(a) else {"name": p, "alpha": a} for p, a in pairs]
    curves: dict[str, dict[str, Any]] = {}  # schedules that differ in their training density alone are one path
    for values in found:
        schedule = schedules.create(**values)
        if schedule.has_path:
            curves.setdefault(str(schedule.curve(torch.linspace(0, 1, 9)).tolist()), values)
    return _named(list(curves.values()))


def _settings(frame: pd.DataFrame, runs: Path | None, prefix: str) -> list[dict[str, Any]]:
    """The different settings of schedules below ``prefix`` in the configs."""
    shared, own = configs(frame, runs)
    found: dict[str, dict[str, Any]] = {}
    for name in frame[frame.seed == frame.seed.min()].evaluation_id:
        config = {**shared, **own.get(name, {})}
        values = {k.removeprefix(prefix): v for k, v in config.items() if k.startswith(prefix)}
        if "name" in values:
            found[str(values)] = values
    return list(found.values())


def _named(found: list[dict[str, Any]]) -> dict[str, Schedule]:
    """The first schedules of ``found``, by name and what varies among those of that name."""
    told: dict[str, Schedule] = {}
    for values in found:
        alike = [other for other in found if other["name"] == values["name"]]
        varied = [k for k in values if len({str(other.get(k)) for other in alike}) > 1 and k != "alpha"]
        title = path_label(values["name"], values.get("alpha", math.nan))
        told[" ".join([title, *(f"{k} {values[k]}" for k in varied)])] = schedules.create(**values)
    return dict(list(told.items())[:SHOWN])


def squares(frame: pd.DataFrame, runs: Path | None) -> Figure | None:
    """Where every schedule of the sweep trains (points; at the edges each stream's own times) and its path (line)."""
    found = trained(frame, runs)
    if not found:
        return None
    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    size = (2.5 * columns, 2.7 * rows)
    figure, axes = subplots(rows, columns, size)
    for ax in axes.flat[len(found) :]:
        ax.set_axis_off()
    for ax, (name, schedule) in zip(axes.flat, found.items(), strict=False):
        schedule.plot(ax, steps=20, title=name)
    return figure


def paths(frame: pd.DataFrame, runs: Path | None, steps: int = 20) -> Figure | None:
    """The paths of the sweep in the unit square, pixels against the latent; `squares` shows it where there is one."""
    found = {name: path for name, path in followed(frame, runs).items() if path.streams > 1}
    if len(found) < 2:
        return None
    figure, axes = subplots(1, 1, (5.2, 3.4))
    ax = axes[0][0]
    for i, ((name, schedule), colour) in enumerate(
        zip(found.items(), sns.color_palette("viridis", len(found)), strict=True)
    ):
        path = schedule.path(steps)
        ax.plot(path[:, 0], path[:, 1], STYLES[i % 4], color=colour, marker=MARKERS[i % 8], markersize=3, label=name)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    ax.set(xlabel="$t$ pixels (1 = clean)", ylabel="$t$ latent (1 = clean)")
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def ratios(frame: pd.DataFrame, runs: Path | None) -> Figure | None:
    """Signal-to-noise ratio of pixels and latent against global time (LF Eq. 3), both streams of variance 1."""
    found = {name: path for name, path in followed(frame, runs).items() if path.streams > 1}
    if not found:
        return None
    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    figure, axes = subplots(rows, columns, (2.4 * columns, 2.1 * rows), sharex=True, sharey=True)
    u = torch.linspace(0, 1, 101, dtype=torch.float64)[INSIDE]
    for ax in axes.flat[len(found) :]:
        ax.set_axis_off()
    for ax, (name, schedule) in zip(axes.flat, found.items(), strict=False):
        ratio = snr(schedule.curve(u))
        for i, stream in enumerate(("pixels", "latent")):
            shown = (ratio[:, i] > 0) & ratio[:, i].isfinite()
            ax.plot(u[shown], ratio[shown, i], STYLES[i], color=sns.color_palette("colorblind")[i], label=stream)
        ax.set(yscale="log", title=name, ylim=(1e-4, 1e4))
    axes[0][0].legend(fontsize=7)
    figure.supxlabel("global time", fontsize=9)
    figure.supylabel("SNR", fontsize=9)
    return figure
