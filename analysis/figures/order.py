"""Figures of a search for an order: the paths that were tried, and the scores of each over its lengths."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib import patheffects
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from analysis import orders
from analysis.figures import schedules
from analysis.figures.style import MARKERS, subplots
from analysis.scores import header, sign

MOST = 0.8  # quantile of the scores at which colours end: a bad order does not make all others look alike
OTHERS = "0.7"  # colour of an order that was left


def figures(frame: pd.DataFrame, runs: Path | None) -> dict[str, Figure | None]:
    """The figures by name."""
    done = frame.dropna(subset=[orders.objective(frame)])
    return {"tried": tried(done, runs), "halving": halving(done)}


def tried(frame: pd.DataFrame, runs: Path | None) -> Figure | None:
    """The paths of all orders in the unit square of every two streams: by score (left), by length (right).

    The scores are those after the shortest training, which every order has. The best order is the wide line.
    """
    usual, score = orders.halving(frame), orders.objective(frame)
    found = schedules.by_evaluation(usual, runs, "training.schedule.")
    first = usual.drop_duplicates("order")
    first = first[first.evaluation_id.isin(found)]
    if first.empty:
        return None
    best, lengths = orders.winner(frame).order, usual.groupby("order").share.max()
    one = found[first.evaluation_id.iloc[0]]
    pairs = one.schedule.pairs
    shades = sns.color_palette("viridis", as_cmap=True)
    shades = ListedColormap([shades(schedules.LIGHTEST * k / 255) for k in range(256)])
    lower = sign(score) > 0
    ends = sorted(
        (first[score].quantile(MOST if lower else 1 - MOST), first[score].min() if lower else first[score].max())
    )
    by_score = ScalarMappable(Normalize(*ends), shades if lower else shades.reversed())
    by_length = ScalarMappable(Normalize(0, max(lengths.max(), 0.01)), shades.reversed())
    figure, axes = subplots(len(pairs), 2, (7.4, 3.1 * len(pairs)), sharex=True, sharey=True)
    names = schedules.names_of(one)
    rows = first.assign(last=first.order == best).sort_values(["last", score], ascending=[True, not lower])
    for (x, y), row in zip(pairs, axes, strict=True):
        for cell in rows.to_dict("records"):
            schedule = found[cell["evaluation_id"]].schedule
            path = schedule.path(schedule.steps_from(json.loads(cell["protocol"])["steps"]))
            for ax, colour in zip(row, (by_score.to_rgba(cell[score]), by_length.to_rgba(lengths[cell["order"]])),
                                  strict=True):  # fmt: skip
                style: dict[str, Any] = {"color": colour, "linewidth": 1.2}
                if cell["order"] == best:
                    edge = [patheffects.Stroke(linewidth=4.5, foreground="k"), patheffects.Normal()]
                    style |= {"linewidth": 3, "path_effects": edge}
                ax.plot(path[:, x], path[:, y], **style)
        for ax in row:
            ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel=f"$t$ {names[x]} (1 = clean)")
        row[0].set_ylabel(f"$t$ {names[y]} (1 = clean)")
    shortest = f"{header(score, frame)} after {first.share.min():.0%} of the steps"
    figure.colorbar(
        by_score,
        ax=list(axes[:, 0]),
        label=shortest,
        extend="max" if lower else "min",
        shrink=0.9,
        aspect=20 * len(pairs),
    )
    figure.colorbar(by_length, ax=list(axes[:, 1]), label="share of the steps", shrink=0.9, aspect=20 * len(pairs))
    return figure


def halving(frame: pd.DataFrame) -> Figure:
    """The score of every order against its length; the best one, its first rival and its checks are named."""
    score, best = orders.objective(frame), orders.winner(frame)
    usual = orders.halving(frame)
    figure, axes = subplots(1, 1, (6.4, 3.4))
    ax = axes[0][0]
    first, colours = frame.order.iloc[0], sns.color_palette("colorblind")
    for order in usual.order.unique():
        part = usual[usual.order == order].sort_values("share")
        style: dict[str, Any] = {"color": OTHERS, "linewidth": 1, "markersize": 3, "zorder": 2}
        if order == first:
            style |= {"color": colours[1], "label": f"the first: {order}", "zorder": 3}
        if order == best.order:
            style |= {"color": colours[0], "label": f"the best: {order}", "linewidth": 2, "markersize": 5, "zorder": 4}
        ax.plot(part.share, part[score], "o-", **style)
    checks = frame.drop(usual.index)
    for k, (name, part) in enumerate(
        ((orders.FRESH, checks[checks.seed == best.seed]), (orders.SECOND, checks[checks.seed > best.seed])), 1
    ):
        if len(part):
            ax.plot(part.share, part[score], MARKERS[k], color=colours[0], markersize=6, mfc="w", label=name, zorder=5)
    shares = sorted(frame.share.unique())
    ax.set(xscale="log", xlabel="length of the training, share of a whole one", ylabel=header(score, frame))
    ax.set_xticks(shares, [f"{share:.0%}" for share in shares])
    ax.minorticks_off()
    lower, values = sign(score) > 0, usual[score]
    if len(values) > 3 and lower and values.max() > 4 * values.quantile(MOST):
        ax.set_yscale("log")
    figure.legend(fontsize=7, loc="outside lower center", ncols=2, frameon=False)
    return figure
