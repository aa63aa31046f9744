"""Figures of a guidance search: scores of the trials in their order, and over the scales."""

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from analysis.figures.style import MARKERS, subplots
from analysis.scores import SCORES, best_row, best_so_far, header, labels, scores


def kinds(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The trials of each kind of guidance."""
    return [(str(k), part) for k, part in frame.groupby("kind", sort=False)] if "kind" in frame else [("", frame)]


def figures(frame: pd.DataFrame) -> dict[str, Figure | None]:
    """The figures by name."""
    done = frame.dropna(subset=[scores(frame)[0]])
    return {"search": history(done), "guidance": plane(done)}


def history(frame: pd.DataFrame) -> Figure:
    """The first score of each trial, the best so far, and that of the first trial, which is unguided."""
    score = scores(frame)[0]
    figure, axes = subplots(1, 1, (5, 3.2))
    ax = axes[0][0]
    for i, (kind, part) in enumerate(kinds(frame)):
        colour = sns.color_palette("colorblind")[i]
        ax.plot(part.trial, part[score], MARKERS[i], color=colour, markersize=4, label=kind or "trials")
    ordered = frame.sort_values("trial")
    ax.step(ordered.trial, best_so_far(ordered), where="post", color="0.25", linewidth=1, label="best so far")
    ax.axhline(ordered[score].iloc[0], color="0.5", linestyle=":", label="unguided")
    ax.set(xlabel="trial", ylabel=header(score, frame))
    ax.legend(fontsize=7)
    return figure


def plane(frame: pd.DataFrame) -> Figure | None:
    """The first score over the scales of two streams, or of one, with one panel per kind; a star marks the best.

    Dots also stand for trials with other intervals or shifts.
    """
    score = scores(frame)[0]
    varied = [name for name in labels(frame) if name.startswith("scale.") and frame[name].nunique() > 1][:2]
    if not varied:
        return None
    best = best_row(frame)
    panels = kinds(frame)
    figure, axes = subplots(1, len(panels), (3.1 * len(panels) + 0.8, 3.2), sharex=True, sharey=True)
    for ax, (kind, part) in zip(axes[0], panels, strict=True):
        y = varied[1] if len(varied) > 1 else score
        style: dict[str, Any] = {"c": part[score], "cmap": "cividis", "s": 36, "edgecolors": "k", "linewidths": 0.3}
        dots = ax.scatter(part[varied[0]], part[y], **style, vmin=frame[score].min(), vmax=frame[score].quantile(0.6))
        ax.set(xlabel=varied[0].replace(".", " of "), title=kind)
        if best in part.index:
            ax.plot(part.at[best, varied[0]], part.at[best, y], "*", color="w", markeredgecolor="k", markersize=14)
            ax.set_title(f"{kind}  ☆ {part[score].round(SCORES[score][0]).at[best]}".strip())
    axes[0][0].set_ylabel(varied[1].replace(".", " of ") if len(varied) > 1 else header(score, frame))
    if len(varied) > 1:
        figure.colorbar(dots, ax=list(axes[0]), label=header(score, frame), extend="max", shrink=0.9)
    return figure
