"""`python -m analysis.figures NAME [runs folder]`: a sweep's figures, PNG and PDF.

Which figures a sweep has follows from its rows: a number among its labels is an axis, names are lines of dots, a
tokenizer's scores stand against those of generation, and what `analysis.measure` stored is drawn.
"""

from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from safetensors.torch import load_file

from analysis import measured, order, searched
from analysis.order import MARKERS, STYLES, subplots
from analysis.protocol import comparable, shared
from analysis.results import curves, samples
from analysis.scores import scores
from analysis.tables import header, label_text, labels, named, path_label, source, tokenizers
from lf.door import door

STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "grid.alpha": 0.3,
    "savefig.bbox": "tight",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "lf",
}
ROWS = 24  # of a sample grid


def panels(frame: pd.DataFrame, width: float, height: float) -> tuple[Figure, dict[str, Axes]]:
    """An axis for each of a sweep's main scores, at most two."""
    found = [name for name in scores(frame) if name in ("fd", "fid", "agreement", "inception_score")][:2]
    found = found or scores(frame)[:1]
    figure, axes = subplots(1, len(found), (width * len(found), height))
    return figure, dict(zip(found, axes[0], strict=True))


def axes_of(frame: pd.DataFrame) -> list[str]:
    """The labels that are numbers and vary: what scores are drawn against."""
    numbers = [name for name in labels(frame) if pd.api.types.is_numeric_dtype(frame[name])]
    return [n for n in numbers if frame[n].nunique() > 1 and frame[n].dtype != bool]


def legend(figure: Figure, ax: Axes) -> None:
    handles, names = ax.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8, frameon=False)


def score_against_alpha(frame: pd.DataFrame) -> Figure:
    """Scores of the one-model-many-paths experiment against alpha, a line a latent; mean ± sd over seeds.

    Horizontal lines are the models trained at the same budget for one order only.
    """
    figure, axes = panels(frame, 4.2, 3.6)
    alphas = sorted(frame.alpha.dropna().unique())
    for score, ax in axes.items():
        lines(ax, frame[frame.alpha.notna()], "alpha", score, ["latent"])
        for model, style in (("cascaded", "--"), ("pixel_only", ":")):
            rows = frame[frame.model == model]
            if len(rows) and rows[score].notna().any():
                label = f"trained {model}" + (f" ({rows.latent.iloc[0]})" if model != "pixel_only" else " (JiT)")
                ax.axhline(rows[score].mean(), linestyle=style, color="0.25", label=label)
        ax.set_xscale("log", base=4)
        ax.set_xticks(alphas, [path_label("", a).removeprefix("α = ") for a in alphas])
        ax.set(xlabel=r"pixels first  ←  $\alpha$  →  latent first", ylabel=header(score, frame))
    legend(figure, next(iter(axes.values())))
    return figure


def lines(ax: Axes, frame: pd.DataFrame, x: str, score: str, by: list[str]) -> None:
    """Mean ± sd over seeds against the label ``x``, a line for each setting of the labels ``by``."""
    groups = list(frame.groupby(by, dropna=False, sort=False)) if by else [((), frame)]
    drawn = [(key, part) for key, part in groups if part[x].nunique() > 1]
    for i, (key, part) in enumerate(drawn or [((), frame)]):
        at = part.groupby(x)[score].agg(["mean", "std"])
        style: dict[str, Any] = {"marker": MARKERS[i % 8], "linestyle": STYLES[i % 4] if drawn else "none"}
        title = ", ".join(f"{name} {label_text(value)}" for name, value in zip(by, key, strict=False))
        colour = sns.color_palette("colorblind")[i % 10]
        ax.errorbar(at.index, at["mean"], at["std"].fillna(0), **style, capsize=2, color=colour, label=title)


def score_against_numbers(frame: pd.DataFrame) -> Figure | None:
    """The first score against each label that is a number, a line for each setting of the others."""
    found = axes_of(frame)
    if not found or not scores(frame):
        return None
    score = scores(frame)[0]
    size = (3.6 * len(found), 3.6)
    figure, axes = subplots(1, len(found), size, sharey=True)
    for ax, x in zip(axes[0], found, strict=True):
        lines(ax, frame, x, score, [name for name in labels(frame) if name != x])
        ax.set(xlabel=x.replace("_", " "))
        if len(found) > 1:  # each has others that are kept
            ax.legend(fontsize=7)
    axes[0][0].set_ylabel(header(score, frame))
    if len(found) == 1:
        legend(figure, axes[0][0])
    return figure


def score_by_name(frame: pd.DataFrame) -> Figure | None:
    """Main scores of every cell, a line a cell, guided below unguided; mean ± sd over seeds."""
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
            y = [order_of[name] + 0.2 * (i - (len(kinds) - 1) / 2) for name in at.index]  # none hides another
            style = {"marker": MARKERS[i], "linestyle": "none", "color": sns.color_palette("colorblind")[i]}
            ax.errorbar(at["mean"], y, xerr=at["std"].fillna(0), **style, capsize=2, label=f"guidance {kind}")
        ax.set_yticks(range(len(order_of)), list(order_of) if j == 0 else [""] * len(order_of), fontsize=7)
        ax.set(xlabel=header(score, frame), ylim=(len(order_of) - 0.5, -0.5))
    if "guidance" in frame:
        legend(figure, next(iter(axes.values())))
    return figure


def reconstruction(frame: pd.DataFrame) -> Figure | None:
    """Unguided generation against a tokenizer's reconstruction: does the one predict the other?

    A line joins the tokenizers that are alike in the first label, such as aligned or not, in the order of the rows.
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


def training_curves(frame: pd.DataFrame, runs: Path | None) -> Figure | None:
    """Loss of each training of the first seed."""
    read = curves(frame, runs)
    read = read[read.name == "loss"]
    if read.empty:
        return None
    first = frame[frame.seed == frame.seed.min()].drop_duplicates("training_id").set_index("training_id")
    figure, axes = subplots(1, 1, (5, 3.4))
    ax = axes[0][0]
    names = [n for n in labels(frame) if first[n].nunique() > 1 and n not in ("guidance", "path", "alpha")]
    for i, (name, part) in enumerate(read.groupby("training_id", sort=False)):
        title = ", ".join(label_text(first.at[name, n]) for n in names)
        style = {"linestyle": STYLES[i % 4], "color": sns.color_palette("colorblind")[i % 10]}
        ax.plot(part.step, part.value, **style, linewidth=1, label=title)
    ax.set(xlabel="step", ylabel="training loss", yscale="log")
    ax.set_title("not to be compared between schedules, which weigh times differently", fontsize=8)
    legend(figure, ax)
    return figure


def sample_grid(frame: pd.DataFrame, runs: Path | None, columns: int = 12) -> Figure | None:
    """Kept images of the first seed, a row a cell, the same noise and label in every column."""
    first = frame[frame.seed == frame.seed.min()]
    files = samples(first, runs)
    chosen = first[first.evaluation_id.isin(files)].head(ROWS)
    if chosen.empty:
        return None
    size = (0.55 * columns + 1.8, 0.56 * len(chosen))
    figure, axes = subplots(len(chosen), 1, size)
    for ax, name, title in zip(axes[:, 0], chosen.evaluation_id, named(chosen), strict=True):
        measured.show(ax, load_file(files[name])["images"][:columns], columns)
        ax.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=7)
    return figure


def figures(frame: pd.DataFrame, runs: Path | None) -> dict[str, Figure]:
    """All figures of a sweep by name. Raises `UserError` for rows that cannot be compared."""
    comparable(frame)
    shared(frame)
    made = searched.figures(frame) if "trial" in labels(frame) else _of_cells(frame, runs)
    made |= {"samples": sample_grid(frame, runs), **measured.figures(frame, runs)}
    return {name: figure for name, figure in made.items() if figure is not None}


def _of_cells(frame: pd.DataFrame, runs: Path | None) -> dict[str, Figure | None]:
    """What cells that may differ in their training have: a search's trials are of one network along one path."""
    made: dict[str, Figure | None] = {}
    if {"alpha", "latent", "model"} <= {*labels(frame)}:
        made["alpha"] = score_against_alpha(frame)
    else:
        numbers = axes_of(frame) and "psnr" not in frame
        made["scores"] = score_against_numbers(frame) if numbers else score_by_name(frame)
    return made | {
        "reconstruction": reconstruction(frame),
        "paths": order.paths(frame, runs),
        "densities": order.squares(frame, runs),
        "snr": order.ratios(frame, runs),
        "training": training_curves(frame, runs),
    }


def write(frame: pd.DataFrame, folder: Path, runs: Path | None) -> list[Path]:
    """All figures of a sweep, as PNG and PDF, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(STYLE):
        for name, figure in figures(frame, runs).items():
            for kind in ("png", "pdf"):
                dated = {"CreationDate": None} if kind == "pdf" else None
                figure.savefig(folder / f"{name}.{kind}", dpi=160, metadata=dated)
                written.append(folder / f"{name}.{kind}")
    return written


def main(argv: list[str]) -> None:
    matplotlib.use("agg")
    frame, folder, runs = source(argv, "figures")
    print(*write(frame, folder, runs), sep="\n")


if __name__ == "__main__":
    door(main)
