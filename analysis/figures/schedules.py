"""Figures of schedules: training densities, paths, and each stream's signal-to-noise ratio along the path."""

import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure

from analysis.figures.style import MARKERS, STYLES, subplots
from analysis.results import configs, define, nested
from analysis.scores import path_label
from lf import schedules
from lf.config.schema import stream_names
from lf.diffusion.flow import snr
from lf.schedules import Schedule

NAMES = ("pixels", "latent")  # of two streams
WIDTH, NARROW = 30, 20  # of a title, in characters: in small letters, and in those of the axes
MOST_SCHEDULES = 12  # most schedules in one figure
LIGHTEST = 0.85  # of the colours of paths, between 0 and 1; lighter ones are hard to see on white
PATH = "0.15"  # colour of a path that nothing is sampled along
ALONE = "0.35"  # colour of the path of the pixels alone
INSIDE = slice(1, -1)  # without the ends of a path, where the ratio is 0 or infinite


class Named(NamedTuple):
    """A schedule with the names of its streams."""

    schedule: Schedule
    names: Sequence[str]


def trained(frame: pd.DataFrame, runs: Path | None) -> dict[str, Named]:
    """The different schedules of the trainings of the first seed, named by their differences."""
    return _named(_settings(frame, runs, "training.schedule."))


def followed(frame: pd.DataFrame, runs: Path | None) -> dict[str, Named]:
    """The different paths of the evaluations of the first seed, named by their differences."""
    found = _settings(frame, runs, "evaluation.path.")
    if not found and {"path", "alpha"} <= {*frame}:  # rows that were exported without their configs
        pairs = frame[["path", "alpha"]].drop_duplicates().itertuples(index=False)
        found = [({"name": p} if math.isnan(a) else {"name": p, "alpha": a}, NAMES) for p, a in pairs]
    curves: dict[str, tuple[dict[str, Any], Sequence[str]]] = {}  # those that differ only in their training density
    for values, names in found:
        schedule = schedules.create(**values)
        if schedule.has_path:
            curves.setdefault(curve_of(schedule), (values, names))
    return _named(list(curves.values()))


def _settings(frame: pd.DataFrame, runs: Path | None, prefix: str) -> list[tuple[dict[str, Any], Sequence[str]]]:
    """The different schedule settings under ``prefix`` in the configs, and the names of the streams."""
    shared, own = configs(frame, runs)
    found: dict[str, tuple[dict[str, Any], Sequence[str]]] = {}
    for name in frame[frame.seed == frame.seed.min()].evaluation_id:
        config = {**shared, **own.get(name, {})}
        values = _under(prefix, config)
        if "name" in values:
            found[str(values)] = values, _streams(config)
    if not all(schedules.known(values["name"]) for values, _ in found.values()):
        define(frame)
    return [(values, names) for values, names in found.values() if schedules.known(values["name"])]


def by_evaluation(frame: pd.DataFrame, runs: Path | None, prefix: str) -> dict[str, Named]:
    """The schedule under ``prefix`` in the config of each row, by evaluation id."""
    shared, own = configs(frame, runs)
    every = {name: {**shared, **own.get(name, {})} for name in frame.evaluation_id}
    found = {name: (_under(prefix, config), _streams(config)) for name, config in every.items()}
    return {
        name: Named(schedules.create(**values), names)
        for name, (values, names) in found.items()
        if schedules.known(values.get("name", ""))
    }


def _streams(config: dict[str, Any]) -> Sequence[str]:
    """The names of the streams in a flat config, which has ``streams`` only where the order of latents matters."""
    latents = [value for key, value in config.items() if re.fullmatch(r"training\.latents\.[^.]+\.name", key)]
    return config.get("training.streams") or (stream_names(latents) if len(latents) < 2 else ())


def curve_of(schedule: Schedule) -> str:
    """A path as text: equal for equal paths."""
    return str(schedule.curve(torch.linspace(0, 1, 9)).tolist())


def colours(frame: pd.DataFrame, runs: Path | None) -> dict[str, Any]:
    """The colour of each path of the sweep (`curve_of`), the same in all figures: violet to green in their order."""
    found = [one.schedule for one in followed(frame, runs).values()]
    several = [schedule for schedule in found if schedule.streams > 1]
    alone = {curve_of(schedule): ALONE for schedule in found if schedule.streams == 1}
    shades = sns.color_palette("viridis", as_cmap=True)
    palette = [shades(LIGHTEST * i / max(1, len(several) - 1)) for i in range(len(several))]
    return alone | {curve_of(schedule): palette[i] for i, schedule in enumerate(several)}


def colours_of_trainings(frame: pd.DataFrame, runs: Path | None) -> dict[str, Any]:
    """The colour of the path that each training is for, by training id; only where a path tells the trainings apart.

    A training for every path has none, and so have several trainings of one seed that are for the same path.
    """
    known, (shared, own) = colours(frame, runs), configs(frame, runs)
    alike: dict[tuple[int, str], set[str]] = {}
    for seed, training, evaluation in zip(frame.seed, frame.training_id, frame.evaluation_id, strict=True):
        values = _under("training.schedule.", {**shared, **own.get(evaluation, {})})
        if schedules.known(values.get("name", "")) and (schedule := schedules.create(**values)).has_path:
            alike.setdefault((seed, curve_of(schedule)), set()).add(training)
    return {min(of): known[curve] for (_, curve), of in alike.items() if len(of) == 1 and curve in known}


def _under(prefix: str, config: dict[str, Any]) -> dict[str, Any]:
    """The settings under ``prefix`` in a flat config."""
    return nested({k.removeprefix(prefix): v for k, v in config.items() if k.startswith(prefix)})


def _named(found: list[tuple[dict[str, Any], Sequence[str]]]) -> dict[str, Named]:
    """The first schedules of ``found``, named by schedule and by the parameters that vary."""
    named: dict[str, Named] = {}
    by_name = {values["name"]: [other for other, _ in found if other["name"] == values["name"]] for values, _ in found}
    found = [(_with_order(values, names, by_name[values["name"]]), names) for values, names in found]
    for values, names in found:
        alike = [other for other, _ in found if other["name"] == values["name"]]
        varied = [k for k in values if len({str(other.get(k)) for other in alike}) > 1 and k not in ("alpha", "names")]
        varied = [k for k in varied if k != "streams" or "order" not in values]
        title = path_label(values["name"], values.get("alpha", math.nan))
        title = " ".join([title, *(_parameter(k, values[k]) for k in varied)])
        named[title] = Named(schedules.create(**values), names)
    return dict(list(named.items())[:MOST_SCHEDULES])


def _with_order(values: dict[str, Any], names: Sequence[str], others: list[dict[str, Any]]) -> dict[str, Any]:
    """The settings with the order that is theirs by default, if others name another one."""
    if "order" in values or len(names) != values.get("streams") or not any("order" in other for other in others):
        return values
    return values | {"names": list(names), "order": [[name] for name in (*names[1:], names[0])]}


def _parameter(key: str, value: Any) -> str:
    """A parameter in a title; an order or points as ``tiny → pixels`` and ``0 0 → 0.05 0.7 → 1 1``."""
    if isinstance(value, list) and value and all(isinstance(part, list) for part in value):
        return " → ".join(" + ".join(part) if key == "order" else " ".join(f"{t:g}" for t in part) for part in value)
    return f"{key} {value}"


def squares(frame: pd.DataFrame, runs: Path | None) -> Figure | None:
    """Training density (points; histograms of each stream's times at the edges) and path (line) of every schedule.

    The axes are the times of two streams; with more streams, there is a square for every two.
    """
    found = trained(frame, runs)
    if not found:
        return None
    panels = [(title, *one, pair) for title, one in found.items() for pair in one.schedule.pairs]
    columns = min(4 if len(panels) == len(found) else 3, len(panels))
    rows = -(-len(panels) // columns)
    size = (2.5 * columns, 2.7 * rows)
    figure, axes = subplots(rows, columns, size)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    known = colours(frame, runs)
    for ax, (title, schedule, names, pair) in zip(axes.flat, panels, strict=False):
        title = textwrap.fill(title, WIDTH) if schedule.streams > 2 else title
        schedule.plot(ax, steps=20, title=title, pair=pair, names=names_of(Named(schedule, names)))
        for line in ax.lines:
            line.set_color(known.get(curve_of(schedule), PATH))
    return figure


def paths(frame: pd.DataFrame, runs: Path | None, steps: int = 20) -> Figure | None:
    """The paths of the sweep in the unit square of every two streams; None if there is only one."""
    found = {title: one for title, one in followed(frame, runs).items() if one.schedule.streams > 1}
    if len(found) < 2:
        return None
    panels = {one.schedule.streams: one for one in found.values()}  # any path of so many streams, for the labels
    squares = [(k, pair) for k, one in sorted(panels.items()) for pair in one.schedule.pairs]
    columns = min(3, len(squares))
    rows = -(-len(squares) // columns)
    figure, axes = subplots(rows, columns, (2.2 * columns + 3, 3 * rows) if len(squares) > 1 else (5.2, 3.4))
    shared = colours(frame, runs)
    for ax in axes.flat[len(squares) :]:
        ax.set_axis_off()
    for ax, (k, (x, y)) in zip(axes.flat, squares, strict=False):
        for i, (title, (schedule, _)) in enumerate(found.items()):
            if schedule.streams == k:
                path = schedule.path(schedule.steps_from(steps))
                style = {"color": shared[curve_of(schedule)], "marker": MARKERS[i % 8], "markersize": 3, "label": title}
                ax.plot(path[:, x], path[:, y], STYLES[i % 4], **style)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        names = names_of(panels[k])
        ax.set(xlabel=f"$t$ {names[x]} (1 = clean)", ylabel=f"$t$ {names[y]} (1 = clean)")
    if len(squares) == 1:
        axes[0][0].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    else:
        shown = {label: line for ax in axes.flat for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(shown.values(), shown.keys(), fontsize=7, loc="outside right center")
    return figure


def names_of(one: Named) -> Sequence[str]:
    """The names of its streams for axes: of two, ``pixels`` and ``latent``, unless the order is told by name."""
    k = one.schedule.streams
    if one.schedule.names:
        return one.schedule.names
    if k == 2:
        return NAMES
    return one.names if len(one.names) == k else ("pixels", *(f"latent {i}" for i in range(1, k)))


def ratios(frame: pd.DataFrame, runs: Path | None) -> Figure | None:
    """Signal-to-noise ratio of every stream against global time (LF Eq. 3), for streams of variance 1."""
    found = {title: one for title, one in followed(frame, runs).items() if one.schedule.streams > 1}
    if not found:
        return None
    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    figure, axes = subplots(rows, columns, (2.4 * columns, 2.1 * rows), sharex=True, sharey=True)
    u = torch.linspace(0, 1, 101, dtype=torch.float64)[INSIDE]
    for ax in axes.flat[len(found) :]:
        ax.set_axis_off()
    shown_names, narrow = set[str](), all(len(title) <= NARROW for title in found)
    for ax, (title, one) in zip(axes.flat, found.items(), strict=False):
        ratio, names = snr(one.schedule.curve(u)), names_of(one)
        for i, stream in enumerate(names):
            shown = (ratio[:, i] > 0) & ratio[:, i].isfinite()
            style = {"color": sns.color_palette("colorblind")[i % 10], "label": stream}
            ax.plot(u[shown], ratio[shown, i], STYLES[i % 4], **style)
        ax.set(yscale="log", title=title, ylim=(1e-4, 1e4))
        if not narrow:
            ax.set_title(textwrap.fill(title, WIDTH), fontsize=8)
        if not {*names} <= shown_names:
            ax.legend(fontsize=7)
            shown_names |= {*names}
    figure.supxlabel("global time", fontsize=9)
    figure.supylabel("SNR", fontsize=9)
    return figure
