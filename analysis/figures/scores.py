"""Figures of scores: against alpha, numbers, names and reconstructions; training curves; sample grids."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from safetensors.torch import load_file

from analysis.figures.style import MARKERS, STYLES, legend, show, subplots
from analysis.results import curves, samples
from analysis.scores import header, label_text, labels, named, path_label, scores, tokenizers

GRID_ROWS = 24  # most cells in a sample grid
CLOSE, FEW = 0.01, 4  # scores that differ by less need so many digits that only a few fit below an axis


def panels(frame: pd.DataFrame, width: float, height: float) -> tuple[Figure, dict[str, Axes]]:
    """A figure with axes for each of a sweep's main scores, at most two."""
    found = [name for name in scores(frame) if name in ("fd", "fid", "agreement", "inception_score")][:2]
    found = found or scores(frame)[:1]
    figure, axes = subplots(1, len(found), (width * len(found), height))
    return figure, dict(zip(found, axes[0], strict=True))


def axes_of(frame: pd.DataFrame) -> list[str]:
    """The numeric labels that vary; scores are plotted against them."""
    numbers = [name for name in labels(frame) if pd.api.types.is_numeric_dtype(frame[name])]
    return [n for n in numbers if frame[n].nunique() > 1 and frame[n].dtype != bool]


def score_against_alpha(frame: pd.DataFrame, colours: Mapping[str, Any]) -> Figure:
    """Scores of one model along many paths against alpha, one line per latent; mean ± sd over seeds.

    Horizontal lines are models trained with the same budget for only one order, in the colour of its path.

    Args:
        frame: the sweep's rows.
        colours: colour of a training's path, by training id, where all figures share one.
    """
    figure, axes = panels(frame, 4.2, 3.6)
    alphas = sorted(frame.alpha.dropna().unique())
    for score, ax in axes.items():
        lines(ax, frame[frame.alpha.notna()], "alpha", score, ["latent"])
        for model, style in (("cascaded", "--"), ("pixel_only", ":")):
            rows = frame[frame.model == model]
            if len(rows) and rows[score].notna().any():
                label = f"trained {model}" + (f" ({rows.latent.iloc[0]})" if model != "pixel_only" else " (JiT)")
                colour = colours.get(rows.training_id.iloc[0], "0.25")
                ax.axhline(rows[score].mean(), linestyle=style, color=colour, label=label)
        ax.set_xscale("log", base=4)
        ax.set_xticks(alphas, [path_label("", a).removeprefix("α = ") for a in alphas])
        ax.set(xlabel=r"pixels first  ←  $\alpha$  →  latent first", ylabel=header(score, frame))
    legend(figure, next(iter(axes.values())))
    return figure


def lines(ax: Axes, frame: pd.DataFrame, x: str, score: str, by: list[str]) -> None:
    """Plots mean ± sd over seeds against the label ``x``, with one line per combination of the labels ``by``."""
    groups = list(frame.groupby(by, dropna=False, sort=False)) if by else [((), frame)]
    drawn = [(key, part) for key, part in groups if part[x].nunique() > 1]
    for i, (key, part) in enumerate(drawn or [((), frame)]):
        at = part.groupby(x)[score].agg(["mean", "std"])
        style: dict[str, Any] = {"marker": MARKERS[i % 8], "linestyle": STYLES[i % 4] if drawn else "none"}
        title = ", ".join(f"{name} {label_text(value)}" for name, value in zip(by, key, strict=False))
        colour = sns.color_palette("colorblind")[i % 10]
        ax.errorbar(at.index, at["mean"], at["std"].fillna(0), **style, capsize=2, color=colour, label=title)


def score_against_numbers(frame: pd.DataFrame) -> Figure | None:
    """The first score against each numeric label, with one line per combination of the other labels."""
    found = axes_of(frame)
    if not found or not scores(frame):
        return None
    score = scores(frame)[0]
    size = (3.6 * len(found), 3.6)
    figure, axes = subplots(1, len(found), size, sharey=True)
    for ax, x in zip(axes[0], found, strict=True):
        lines(ax, frame, x, score, [name for name in labels(frame) if name != x])
        ax.set(xlabel=x.replace("_", " "))
        if len(found) > 1 and ax.get_legend_handles_labels()[0]:  # each has others that are kept
            ax.legend(fontsize=7)
    axes[0][0].set_ylabel(header(score, frame))
    if len(found) == 1:
        legend(figure, axes[0][0])
    return figure


def score_by_name(frame: pd.DataFrame) -> Figure | None:
    """Main scores of every cell, one row per cell, guided below unguided; mean ± sd over seeds."""
    names = [name for name in labels(frame) if name != "guidance"]
    if not scores(frame):
        return None
    kinds = list(frame.groupby("guidance", sort=False)) if "guidance" in frame else [("", frame)]
    text = pd.Series(
        [", ".join(label_text(v) for v in r if not pd.isna(v)) for r in frame[names].to_numpy(object)], frame.index
    )
    order_of = {name: i for i, name in enumerate(dict.fromkeys(text))}
    figure, axes = panels(frame, 3.6, 1 + 0.24 * len(order_of))
    for j, (score, ax) in enumerate(axes.items()):
        for i, (kind, part) in enumerate((str(kind), part) for kind, part in kinds):
            at = part.groupby(text)[score].agg(["mean", "std"])
            y = [order_of[name] + 0.2 * (i - (len(kinds) - 1) / 2) for name in at.index]  # so that no dot hides another
            style = {"marker": MARKERS[i], "linestyle": "none", "color": sns.color_palette("colorblind")[i]}
            ax.errorbar(at["mean"], y, xerr=at["std"].fillna(0), **style, capsize=2, label=f"guidance {kind}")
        ax.set_yticks(range(len(order_of)), list(order_of) if j == 0 else [""] * len(order_of), fontsize=7)
        ax.set(xlabel=header(score, frame), ylim=(len(order_of) - 0.5, -0.5))
        if frame[score].max() - frame[score].min() < CLOSE * abs(frame[score].mean()):
            ax.locator_params(axis="x", nbins=FEW)
    if "guidance" in frame:
        legend(figure, next(iter(axes.values())))
    return figure


def reconstruction(frame: pd.DataFrame) -> Figure | None:
    """Scores of unguided generation against the tokenizer's reconstruction: does reconstruction predict generation?

    A line joins tokenizers with the same first label, such as aligned or plain, in the order of the rows.
    """
    found = [name for name in ("psnr", "rfd", "rfid") if name in scores(frame)]
    names = [name for name in labels(frame) if name != "guidance"]
    plain = tokenizers(frame)
    if plain.empty:
        return None
    figure, axes = subplots(1, len(found), (4.2 * len(found), 3.6), sharey=True)
    score = scores(frame)[0]
    for ax, x in zip(axes[0], found, strict=True):
        for i, (kind, part) in enumerate(plain.groupby(names[0], sort=False)):
            cells = part.groupby(names, sort=False)[[x, score]]
            mean, sd = cells.mean(), cells.std().fillna(0)
            style: dict[str, Any] = {"marker": MARKERS[i % 8], "linestyle": STYLES[i % 4], "capsize": 2}
            colour = sns.color_palette("colorblind")[i % 10]
            ax.errorbar(mean[x], mean[score], sd[score], sd[x], **style, color=colour, label=f"{names[0]} {kind}")
            for k, at in enumerate(mean.reset_index().to_dict("records")):
                told = ", ".join(f"{at[name]} {name}" for name in names[1:])
                ax.annotate(told, (at[x], at[score]), (4, -9 if k % 2 else 4), textcoords="offset points", fontsize=6)
        ax.set(xlabel=f"{header(x, frame)} of reconstructions")
    axes[0][0].set_ylabel(f"{header(score, frame)} of generated images")
    legend(figure, axes[0][0])
    return figure


def training_curves(frame: pd.DataFrame, runs: Path | None, colours: Mapping[str, Any]) -> Figure | None:
    """Training loss of each training of the first seed; None if no training is long enough for a line.

    ``colours`` as in `score_against_alpha`.
    """
    read = curves(frame, runs)
    read = read[read.name == "loss"]
    if read.empty or read.training_id.value_counts().max() < 2:
        return None
    first = frame[frame.seed == frame.seed.min()].drop_duplicates("training_id").set_index("training_id")
    figure, axes = subplots(1, 1, (5, 3.4))
    ax = axes[0][0]
    names = [n for n in labels(frame) if first[n].nunique() > 1 and n not in ("guidance", "path", "alpha")]
    for i, (name, part) in enumerate(read.groupby("training_id", sort=False)):
        title = ", ".join(label_text(first.at[name, n]) for n in names)
        colour = colours.get(str(name), sns.color_palette("colorblind")[i % 10])
        style = {"linestyle": STYLES[i % 4], "color": colour}
        ax.plot(part.step, part.value, **style, linewidth=1, label=title)
    ax.set(xlabel="step", ylabel="training loss", yscale="log")
    ax.set_title("not to be compared between schedules, which weigh times differently", fontsize=8)
    legend(figure, ax)
    return figure


def sample_grid(frame: pd.DataFrame, runs: Path | None, columns: int = 12) -> Figure | None:
    """Sample images of the first seed, one row per cell; each column has the same noise and label."""
    first = frame[frame.seed == frame.seed.min()]
    files = samples(first, runs)
    chosen = first[first.evaluation_id.isin(files)].head(GRID_ROWS)
    if chosen.empty:
        return None
    size = (0.55 * columns + 1.8, 0.56 * len(chosen))
    figure, axes = subplots(len(chosen), 1, size)
    for ax, name, title in zip(axes[:, 0], chosen.evaluation_id, named(chosen), strict=True):
        show(ax, load_file(files[name])["images"][:columns], columns)
        ax.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=7)
    return figure
