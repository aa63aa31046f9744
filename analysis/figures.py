"""`python -m analysis.figures NAME [runs folder]`: a sweep's figures, PNG and PDF."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torchvision.utils import make_grid

from analysis.results import samples
from analysis.tables import path_label, source
from lf import schedules
from lf.door import door

STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "grid.alpha": 0.3,
    "savefig.bbox": "tight",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
NAMES = {"fd": "{} (lower is better)", "agreement": "agreement of the two objects", "class_accuracy": "class accuracy"}


def score_against_alpha(frame: pd.DataFrame) -> Figure:
    """Every score of the one-model-many-paths experiment against alpha, a line a latent; mean ± sd over seeds.

    Horizontal lines are the models trained at the same budget for one order only.
    """
    shifted = frame[frame.alpha.notna()]
    scores = [name for name in NAMES if name in frame and name != "class_accuracy"] or ["fd"]
    name = json.loads(frame.protocol.dropna().iloc[0])["score"]
    latents = list(shifted.latent.unique())
    colours = dict(zip(latents, sns.color_palette("colorblind"), strict=False))
    figure, axes = plt.subplots(1, len(scores), figsize=(4.2 * len(scores), 3.4), squeeze=False, layout="constrained")
    for ax, score in zip(axes[0], scores, strict=True):
        for latent, marker in zip(latents, "osD^v", strict=False):
            part = shifted[shifted.latent == latent].groupby("alpha")[score].agg(["mean", "std"])
            ax.errorbar(
                part.index,
                part["mean"],
                part["std"].fillna(0),
                marker=marker,
                capsize=2,
                color=colours[latent],
                label=f"{latent}, any path",
            )
        for model, style in (("cascaded", "--"), ("pixel_only", ":")):
            rows = frame[frame.model == model]
            if len(rows) and rows[score].notna().any():
                label = f"trained {model}" + (f" ({rows.latent.iloc[0]})" if model != "pixel_only" else " (JiT)")
                ax.axhline(rows[score].mean(), linestyle=style, color="0.25", label=label)
        ax.set_xscale("log", base=4)
        ax.set_xticks(
            sorted(shifted.alpha.unique()),
            [f"1/{1 / a:g}" if a < 1 else f"{a:g}" for a in sorted(shifted.alpha.unique())],
        )
        ax.set(xlabel=r"pixels first  ←  $\alpha$  →  latent first", ylabel=NAMES[score].format(name))
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.suptitle(f"{frame.attrs['sweep']}: {frame.seed.nunique()} seed(s), mean ± sd", fontsize=9)
    return figure


def paths(frame: pd.DataFrame, steps: int = 20) -> Figure:
    """The paths of the sweep in the unit square, pixels against the latent."""
    figure, ax = plt.subplots(figsize=(3.6, 3.4))
    alphas = sorted(frame.alpha.dropna().unique())
    for alpha, colour in zip(alphas, sns.color_palette("viridis", len(alphas)), strict=True):
        path = schedules.create("shifted", alpha=alpha).path(steps)
        ax.plot(
            path[:, 0],
            path[:, 1],
            color=colour,
            marker=".",
            markersize=3,
            linewidth=1,
            label=path_label("shifted", alpha),
        )
    path = schedules.create("cascaded").path(steps)
    ax.plot(path[:, 0], path[:, 1], color="k", linestyle="--", linewidth=1, label="cascaded")
    ax.set(
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        aspect="equal",
        xlabel="$t$ pixels (1 = clean)",
        ylabel="$t$ latent (1 = clean)",
    )
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def sample_grid(frame: pd.DataFrame, runs: Path | None, columns: int = 12) -> Figure:
    """Kept images of the first seed, a row a path, the same noise and label in every column."""
    first = frame[frame.seed == frame.seed.min()]
    last = first[first.alpha.notna()].latent.iloc[0]
    chosen = pd.concat(
        [first[(first.model == "independent") & (first.latent == last)], first[first.model != "independent"]]
    )
    files = samples(chosen, runs)
    chosen = chosen[chosen.evaluation_id.isin(files)]
    figure, axes = plt.subplots(
        len(chosen), 1, figsize=(0.55 * columns + 1.4, 0.56 * len(chosen)), squeeze=False, layout="constrained"
    )
    for ax, (_, row) in zip(axes[:, 0], chosen.iterrows(), strict=True):
        images = load_file(files[row.evaluation_id])["images"][:columns]
        ax.imshow(make_grid(images, nrow=columns, padding=1, pad_value=255).permute(1, 2, 0).numpy())
        ax.set_ylabel(
            path_label(row.path, row.alpha) if row.model == "independent" else f"trained\n{row.model}",
            rotation=0,
            ha="right",
            va="center",
            fontsize=8,
        )
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        sns.despine(ax=ax, left=True, bottom=True)
    figure.suptitle(f"one `independent` model with {last}, any path; below: trained for one order", fontsize=9)
    return figure


def write(frame: pd.DataFrame, folder: Path, runs: Path | None) -> list[Path]:
    """All figures of a sweep, as PNG and PDF, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(STYLE):
        made = {"alpha": score_against_alpha(frame), "paths": paths(frame), "samples": sample_grid(frame, runs)}
        for name, figure in made.items():
            for kind in ("png", "pdf"):
                figure.savefig(
                    folder / f"{name}.{kind}", dpi=160, metadata={"CreationDate": None} if kind == "pdf" else None
                )
                written.append(folder / f"{name}.{kind}")
            plt.close(figure)
    return written


def main(argv: list[str]) -> None:
    matplotlib.use("agg")
    frame, folder, runs = source(argv, "figures")
    print(*write(frame, folder, runs), sep="\n")


if __name__ == "__main__":
    door(main)
