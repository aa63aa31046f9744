"""All figures of a sweep; its rows determine which it has."""

import io
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from analysis import orders
from analysis.figures import guidance, order, probe, schedules, scores, specialisation
from analysis.figures.style import STYLE
from analysis.protocol import comparable, shared
from analysis.scores import labels, of_orders
from analysis.specialisation import at_share


def draw(frame: pd.DataFrame, runs: Path | None) -> dict[str, Figure]:
    """All figures of a sweep by name.

    Args:
        frame: the sweep's rows.
        runs: the run store; None: read images, curves and configs in ``results/``.

    Raises:
        UserError: the rows cannot be compared.
    """
    comparable(frame)
    shared(frame)
    with matplotlib.rc_context(STYLE):
        if orders.is_search(frame):
            made, shown = order.figures(frame, runs), orders.shown(frame)
        else:
            made = guidance.figures(frame) if "trial" in labels(frame) else _of_cells(frame, runs)
            shown = _chosen(frame)
        made |= {"samples": scores.sample_grid(shown, runs), **probe.figures(frame, runs)}
    return {name: figure for name, figure in made.items() if figure is not None}


def _chosen(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose images and losses are shown: all, but of many short trainings only those of one length."""
    return at_share(frame) if of_orders(frame) else frame


def _of_cells(frame: pd.DataFrame, runs: Path | None) -> dict[str, Figure | None]:
    """The figures of sweeps; a search's trials do not have them, since they share one training and its path."""
    made: dict[str, Figure | None] = {}
    trained = schedules.colours_of_trainings(frame, runs)
    if {"alpha", "latent", "model"} <= {*labels(frame)}:
        made["alpha"] = scores.score_against_alpha(frame, trained)
    elif of_orders(frame):
        made["specialisation"] = specialisation.short_against_whole(frame, runs)
    else:
        numbers = scores.axes_of(frame) and "psnr" not in frame
        made["scores"] = scores.score_against_numbers(frame) if numbers else scores.score_by_name(frame)
    return made | {
        "reconstruction": scores.reconstruction(frame),
        "paths": schedules.paths(frame, runs),
        "densities": schedules.squares(frame, runs),
        "snr": schedules.ratios(frame, runs),
        "training": scores.training_curves(_chosen(frame), runs, trained),
    }


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format="png", dpi=160)
    return file.getvalue()


def write(figures: dict[str, Figure], folder: Path) -> list[Path]:
    """Writes figures as PNG and PDF into ``folder``; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        (folder / f"{name}.png").write_bytes(png(figure))
        with matplotlib.rc_context(STYLE):
            figure.savefig(folder / f"{name}.pdf", dpi=160, metadata={"CreationDate": None})
        written += [folder / f"{name}.png", folder / f"{name}.pdf"]
    return written
