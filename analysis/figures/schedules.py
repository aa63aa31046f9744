"""Figures of schedules: training densities, paths, and each stream's signal-to-noise ratio along the path."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure

from analysis.figures.style import MARKERS, STYLES, subplots
from analysis.results import configs, nested
from analysis.scores import path_label
from lf import schedules
from lf.diffusion.flow import snr
from lf.schedules import Schedule

MOST_SCHEDULES = 12  # most schedules in one figure
INSIDE = slice(1, -1)  # without the ends of a path, where the ratio is 0 or infinite


def trained(frame: pd.DataFrame, runs: Path | None) -> dict[str, Schedule]:
    """The different schedules of the trainings of the first seed, named by their differences."""
    return _named(_settings(frame, runs, "training.schedule."))


def followed(frame: pd.DataFrame, runs: Path | None) -> dict[str, Schedule]:
    """The different paths of the evaluations of the first seed, named by their differences."""
    found = _settings(frame, runs, "evaluation.path.")
    if not found and {"path", "alpha"} <= {*frame}:  # rows that were exported without their configs
        pairs = frame[["path", "alpha"]].drop_duplicates().itertuples(index=False)
        found = [{"name": p} if math.isnan(a) else {"name": p, "alpha": a} for p, a in pairs]
    curves: dict[str, dict[str, Any]] = {}  # schedules that differ only in their training density have one path
    for values in found:
        schedule = schedules.create(**values)
        if schedule.has_path:
            curves.setdefault(str(schedule.curve(torch.linspace(0, 1, 9)).tolist()), values)
    return _named(list(curves.values()))


def _settings(frame: pd.DataFrame, runs: Path | None, prefix: str) -> list[dict[str, Any]]:
    """The different schedule settings under ``prefix`` in the configs."""
    shared, own = configs(frame, runs)
    found: dict[str, dict[str, Any]] = {}
    for name in frame[frame.seed == frame.seed.min()].evaluation_id:
        config = {**shared, **own.get(name, {})}
        values = nested({k.removeprefix(prefix): v for k, v in config.items() if k.startswith(prefix)})
        if "name" in values:
            found[str(values)] = values
    return list(found.values())


def _named(found: list[dict[str, Any]]) -> dict[str, Schedule]:
    """The first schedules of ``found``, named by schedule and by the parameters that vary."""
    named: dict[str, Schedule] = {}
    for values in found:
        alike = [other for other in found if other["name"] == values["name"]]
        hidden = ("alpha", "names", "streams")
        varied = [k for k in values if len({str(other.get(k)) for other in alike}) > 1 and k not in hidden]
        title = path_label(values["name"], values.get("alpha", math.nan))
        named[" ".join([title, *(_parameter(k, values[k]) for k in varied)])] = schedules.create(**values)
    return dict(list(named.items())[:MOST_SCHEDULES])


def _parameter(key: str, value: Any) -> str:
    """A parameter in a title; an order or points as ``tiny → pixels`` and ``0 0 → 0.05 0.7 → 1 1``."""
    if isinstance(value, list) and value and all(isinstance(part, list) for part in value):
        return " → ".join(" ".join(f"{x:g}" if isinstance(x, float) else str(x) for x in part) for part in value)
    return f"{key} {value}"


def squares(frame: pd.DataFrame, runs: Path | None) -> Figure | None:
    """Training density (points; histograms of each stream's times at the edges) and path (line) of every schedule."""
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
    """The paths of the sweep in the unit square, pixels against the latent; None if there is only one."""
    found = {name: path for name, path in followed(frame, runs).items() if path.streams > 1}
    if len(found) < 2:
        return None
    figure, axes = subplots(1, 1, (5.2, 3.4))
    ax = axes[0][0]
    for i, ((name, schedule), colour) in enumerate(
        zip(found.items(), sns.color_palette("viridis", len(found)), strict=True)
    ):
        path = schedule.path(schedule.steps_from(steps))
        ax.plot(path[:, 0], path[:, 1], STYLES[i % 4], color=colour, marker=MARKERS[i % 8], markersize=3, label=name)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    ax.set(xlabel="$t$ pixels (1 = clean)", ylabel="$t$ latent (1 = clean)")
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def ratios(frame: pd.DataFrame, runs: Path | None) -> Figure | None:
    """Signal-to-noise ratio of pixels and latent against global time (LF Eq. 3), for streams of variance 1."""
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
