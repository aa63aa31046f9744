"""Figure of the question `specialisation`: do short trainings rank the orders as trainings from scratch do?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from analysis.figures import schedules
from analysis.figures.style import MARKERS, STYLES
from analysis.scores import header, scores
from analysis.specialisation import ON, SHARE, SHORT, TAU, WHOLE, by_order, main_latent, seed_spread, transfer

APART = 0.03  # of a share: between orders, so that no bar hides another
LAYOUT: list[Any] = [["scores", "pairs", "tau"], ["scores", "pairs", "regret"]]
ASKED: dict[str, Any] = {"linestyle": ":", "color": "0.3", "linewidth": 1}
KINDS: dict[str, dict[str, Any]] = {SHORT: {"color": "k", "marker": "o"}, ON: {"color": "0.6", "marker": "s"}}
BAR: dict[str, Any] = {"capsize": 2, "markersize": 5, "linewidth": 1.2}


def short_against_whole(frame: pd.DataFrame, runs: Path | None) -> Figure | None:
    """Scores by share of the steps, short against whole trainings, and how well the short ones predict the others.

    Args:
        frame: the question's rows.
        runs: the run store; None: read configs in ``results/``.

    Returns:
        The figure; None if nothing is scored, or no order is trained from scratch.
    """
    if not scores(frame) or main_latent(frame) is None:
        return None
    styles = _styles(frame, runs)
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    axes = figure.subplot_mosaic(LAYOUT, width_ratios=[1.25, 1.1, 1])
    _by_share(axes["scores"], frame, styles)
    _pairs(axes["pairs"], frame, styles)
    _prediction(axes["tau"], axes["regret"], frame)
    handles, names = axes["scores"].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    return figure


def _styles(frame: pd.DataFrame, runs: Path | None) -> dict[str, dict[str, Any]]:
    """Marker and line of each order of the main latent, and the colour of its path, where all figures share one."""
    known = schedules.colours(frame, runs)
    found: dict[str, dict[str, Any]] = {}
    rows = frame[frame.latent == main_latent(frame)]
    for i, (order, part) in enumerate(rows.groupby("order", sort=False)):
        begun = part[part.training != ON].dropna(subset=["protocol"])
        curves = [
            schedules.curve_of(one.schedule) for one in schedules.trained(begun, runs).values() if one.schedule.has_path
        ]
        colour = next((known[curve] for curve in curves if curve in known), sns.color_palette("colorblind")[i % 10])
        found[str(order)] = {"color": colour, "marker": MARKERS[i % 8], "linestyle": STYLES[i % 4]}
    return found


def _shares(frame: pd.DataFrame, training: str) -> list[float]:
    return sorted(frame[(frame.training == training) & (frame.latent == main_latent(frame))].share.unique())


def _axis_of_shares(ax: Axes, shares: list[float]) -> None:
    ax.set_xscale("log")
    ax.set_xticks(shares, [f"{100 * share:g} %" for share in shares])
    ax.xaxis.set_minor_locator(NullLocator())
    if shares:
        ax.set_xlim(min(shares) / 1.3, max(shares) * 1.3)


def _by_share(ax: Axes, frame: pd.DataFrame, styles: Mapping[str, dict[str, Any]]) -> None:
    """One line an order over the shares; at the right end, from scratch; mean ± sd over seeds."""
    shares, whole = _shares(frame, SHORT), by_order(frame, WHOLE)
    tables = [by_order(frame, SHORT, share) for share in shares]
    for i, (order, style) in enumerate(styles.items()):
        apart = 1 + APART * (i - (len(styles) - 1) / 2)
        known = [table[order] if order in table else pd.Series(dtype=float) for table in tables]
        mean, sd = [column.mean() for column in known], [column.std() for column in known]
        ax.errorbar(
            [share * apart for share in shares], mean, pd.Series(sd, dtype=float).fillna(0), label=order, **style, **BAR
        )
        if order in whole and whole[order].notna().any():
            end = style | {"linestyle": "none"}
            ax.errorbar([apart], whole[order].mean(), _bar(whole[order]), **end, **BAR)
    _axis_of_shares(ax, [*shares, 1.0])
    ax.set(xlabel="steps, of those from scratch", ylabel=header(scores(frame)[0], frame))
    ax.set_title("specialised; at 100 %: from scratch", fontsize=9)


def _pairs(ax: Axes, frame: pd.DataFrame, styles: Mapping[str, dict[str, Any]]) -> None:
    """One point an order: short against from scratch; hollow: the trunk trained on."""
    whole, short, on = by_order(frame, WHOLE), by_order(frame, SHORT, SHARE), by_order(frame, ON, SHARE)
    ends: list[float] = []
    for order, style in styles.items():
        if order in whole:
            y = whole[order]
            if order in on:
                ax.plot(on[order].mean(), y.mean(), **style, markersize=BAR["markersize"], markerfacecolor="none")
            if order in short:
                x = short[order]
                ax.errorbar(x.mean(), y.mean(), _bar(y), _bar(x), **style | {"linestyle": "none"}, **BAR)
                ends += [end for end in (x.mean(), y.mean()) if end == end]
    if ends:
        ax.plot([min(ends), max(ends)], [min(ends), max(ends)], zorder=0, **ASKED)
    ax.set(xlabel=f"{header(scores(frame)[0], frame)} after {SHARE:.0%} of the steps", ylabel="from scratch")
    ax.set_title(f"{SHARE:.0%} against from scratch", fontsize=9)


def _bar(values: pd.Series) -> float:
    return float(values.std()) if values.notna().sum() > 1 else 0.0


def _prediction(above: Axes, below: Axes, frame: pd.DataFrame) -> None:
    """Kendall's τ and the regret by share, mean ± sd over seeds, with what was asked."""
    found = transfer(frame)
    for name, ax in (("tau", above), ("regret", below)):
        for training, style in KINDS.items():
            at = found[found.training == training].groupby("share")[name].agg(["mean", "std"])
            ax.errorbar(at.index, at["mean"], at["std"].fillna(0), label=training, **style, **BAR)
        _axis_of_shares(ax, _shares(frame, SHORT))
        ax.axvline(SHARE, **ASKED)
    above.axhline(TAU, **ASKED)
    spread = seed_spread(frame)
    if spread == spread:
        below.axhline(spread, **ASKED)
    above.set(ylabel="Kendall's τ", ylim=(None, 1.05))
    above.legend(fontsize=7, loc="lower right")
    above.set_title("how short trainings predict", fontsize=9)
    below.set(xlabel="steps, of those from scratch", ylabel=f"regret, {header(scores(frame)[0], frame)[:-2]}")
