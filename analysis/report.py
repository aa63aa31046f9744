"""`python -m analysis.report [NAME] [runs=FOLDER] [--open]`: writes a sweep's report as HTML, or an index of all.

    python -m analysis.report order_ablation --open
    python -m analysis.report order_ablation runs=results  # committed rows
    python -m analysis.report runs=FOLDER

A report has question, findings, table (a click on a column sorts it), images with a slider along the path or over the
cells, figures, the differences between the cells' configs, and failures. Without a name, ``reports/index.html`` lists
all reports of the run store.
"""

import io
import json
import time
import webbrowser
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis import tables
from analysis.captions import STAR, rules
from analysis.figures import draw, png
from analysis.figures import write as write_figures
from analysis.findings import findings
from analysis.folders import MEANING, arguments, chosen, report_folder
from analysis.page import page, template, version
from analysis.protocol import data_of
from analysis.results import RESULTS, load
from analysis.scores import labels
from lf.core.cli import Parser, run_command, store_of
from lf.core.errors import UserError
from lf.runs import revision
from lf.storage.atomic import replace
from lf.storage.json_files import read_json

COLUMNS = 80  # width of the table at the end of a launch, if it is not on a terminal
GAP = 2  # columns of a terminal between those of a table
THUMBNAIL = (320, 240)  # most pixels of a figure in the index


def write(frame: pd.DataFrame, folder: Path, runs: Path | None, figures: dict[str, bytes] | None = None) -> Path:
    """Writes ``report.html`` in ``folder`` and returns its path.

    In a run store also what the index shows of it, and the manifest of the launch: the next launch of this question
    may replace the one in ``sweeps/``.

    Args:
        frame: the sweep's rows.
        folder: where to write.
        runs: the run store; None: read ``results/``.
        figures: PNG of every figure by name, if they are drawn already.
    """
    if figures is None:
        try:
            figures = {name: png(figure) for name, figure in draw(frame, runs).items()}
        except UserError:
            figures = {}  # the page says why
    replace(folder / "report.html", page(frame, runs, figures))
    if folder.parent != RESULTS:
        done, seeds = int(frame.protocol.notna().sum()), sorted(map(int, frame.seed.unique()))
        about = {
            "question": frame.attrs["question"].partition("\n")[0], "done": done, "cells": len(frame), "seeds": seeds,
            "data": data_of(frame) if done else "", "launched": frame.attrs.get("at"), "written": time.time(),
        }  # fmt: skip
        replace(folder / "about.json", json.dumps(about, indent=1) + "\n")
        manifest = Path(frame.attrs["runs"]) / "sweeps" / frame.attrs["sweep"] / "sweep.json"
        if frame.attrs["launch"] and manifest.exists():
            replace(folder / "sweep.json", manifest.read_text())
        for first in list(figures.values())[:1]:
            image = Image.open(io.BytesIO(first)).convert("RGB")
            image.thumbnail(THUMBNAIL)
            image.save(folder / "thumbnail.png")
    return folder / "report.html"


def index(runs: Path) -> Path:
    """Writes ``reports/index.html``, a page of all reports of a run store, the last launch first; returns its path.

    Raises:
        UserError: the run store has no report.
    """
    found = []
    for file in runs.glob("reports/*/report.html"):
        about: dict[str, Any] = read_json(file.with_name("about.json")) or {}  # reports of earlier versions have none
        at = about.get("launched") or about.get("written") or file.stat().st_mtime
        shown = [file.with_name("thumbnail.png"), *sorted(file.parent.glob("*.png"))]
        picture = next((one.name for one in shown if one.exists()), "")
        found.append(about | {"name": file.parent.name, "at": at, "date": _day(at), "picture": picture})
    if not found:
        raise UserError(f"{runs}: no report yet; sweeps.launch NAME writes one, and so does analysis.report NAME")
    found.sort(key=lambda report: (-report["at"], report["name"]))
    told = {"version": version(), "revision": revision(), "written": _day(time.time()), "reports": found}
    replace(runs / "reports" / "index.html", template("index.html").render(told))
    return runs / "reports" / "index.html"


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def printed(frame: pd.DataFrame, width: int) -> tuple[list[Table], str]:
    """The table for a terminal of ``width`` columns, and its notes.

    Where it is too wide it becomes several, one below the other: labels, or the numbers of rows, and some scores each.
    """
    text = tables.for_a_reader(frame, lambda s: STAR + s)
    wide = {name: max(map(len, [str(name), *text[name]])) + GAP for name in text}
    names = [name for name in text if name in (*labels(frame), *tables.BESIDE, "seeds")]
    if sum(wide.values()) - GAP > width and 2 * sum(wide[name] for name in names) > width:
        text.insert(0, "#", [str(k) for k in range(1, len(text) + 1)])
        wide, names = {"#": len(str(len(text))) + GAP, **wide}, ["#"]
    parts = [[*names]]
    for name in (name for name in text if name not in names):
        if len(parts[-1]) > len(names) and sum(wide[one] for one in parts[-1]) + wide[name] - GAP > width:
            parts.append([*names])
        parts[-1].append(str(name))
    return [_block(text[part]) for part in parts], rules(frame, text)


def _block(text: pd.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for column in text:
        table.add_column(Text(str(column)), overflow="fold")
    for row in text.itertuples(index=False):
        table.add_row(*map(Text, row))
    return table


def show(sweep: str, runs: Path, console: Console) -> None:
    """Prints table and findings of a sweep in ``runs``, and writes table, figures and report to ``runs/reports``."""
    frame = load(sweep, runs)
    if frame.protocol.isna().all():
        return
    matplotlib.use("agg")
    folder = report_folder(frame)
    drawn = write_figures(draw(frame, runs), folder)
    pngs = {file.stem: file.read_bytes() for file in drawn if file.suffix == ".png"}
    tables.write(frame, folder)
    file = write(frame, folder, runs, pngs)
    index(runs)
    width = console.width if console.is_terminal else COLUMNS
    blocks, notes = printed(frame, width)
    for block in blocks:
        console.print(block, "", width=width, highlight=False)
    said = [notes, "", *(f"- {line}" for line in findings(frame))]
    console.print(*said, sep="\n", highlight=False, markup=False, soft_wrap=not console.is_terminal)
    console.print(f"report: {near(file)}", highlight=False, markup=False, soft_wrap=True)


def near(file: Path) -> Path:
    """A path as seen from the working folder, if it lies below."""
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file


def words() -> Parser:
    """The words of the command."""
    parser = arguments(__doc__, f"{MEANING}; results: the committed rows", optional=True)
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    return parser


def main(argv: list[str]) -> None:
    options = words().parse_intermixed_args(argv)
    matplotlib.use("agg")
    if options.name is None or options.name.startswith("runs="):
        file = index(store_of(options.name or "runs"))
    else:
        frame, folder, runs = chosen(options)
        file = write(frame, folder, runs)
        if folder.parent != RESULTS:
            index(folder.parents[1])
    print(near(file))
    if options.open and not webbrowser.open(file.absolute().as_uri()):
        print("no browser was found; open this file in one")


if __name__ == "__main__":
    run_command(main)
