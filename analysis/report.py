"""`python -m analysis.report NAME [runs=FOLDER]`: writes a sweep's report as one self-contained HTML file.

    python -m analysis.report order_ablation
    python -m analysis.report order_ablation runs=results  # committed rows

It has question, protocol, table (a click on a column sorts it), figures, images with a slider along the path or over
the cells, the differences between the cells' configs, and failures.
"""

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from jinja2 import Environment, FileSystemLoader, select_autoescape
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from analysis import tables
from analysis.figures import draw, png, probe
from analysis.figures import write as write_figures
from analysis.figures.style import tiles
from analysis.findings import findings
from analysis.protocol import floor
from analysis.results import configs, load, samples, source
from analysis.scores import named
from lf.core.cli import run_command
from lf.core.errors import UserError
from lf.storage.atomic import replace

MOST_CELLS = 48  # most cells on the slider
COLUMNS = 6
DENSITY = 110 / 160  # CSS pixels per pixel of a figure


def uri(data: bytes) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(data).decode()


def shown_width(figure: bytes) -> int:
    """The width in CSS pixels at which a figure's letters are as large as the page's small ones."""
    return round(Image.open(io.BytesIO(figure)).width * DENSITY)


def grid(images: Tensor) -> str:
    """Images uint8 ``(n, 3, H, W)`` side by side, as a data URI."""
    file = io.BytesIO()
    Image.fromarray(tiles(images, COLUMNS)).save(file, "PNG", optimize=True)
    return uri(file.getvalue())


def frames(frame: pd.DataFrame, runs: Path | None) -> tuple[str, list[dict[str, str]]]:
    """The slider's title and frames: a trajectory if one was measured, else the cells of the first seed."""
    if film := probe.film(frame, runs):
        return "along the path", [{"label": label, "src": grid(images)} for label, images in film]
    first = frame[frame.seed == frame.seed.min()]
    files = samples(first, runs)
    shown = first[first.evaluation_id.isin(files)].head(MOST_CELLS)
    return "over the cells, with the same noise", [
        {"label": label, "src": grid(load_file(files[name])["images"][: 2 * COLUMNS])}
        for label, name in zip(named(shown), shown.evaluation_id, strict=True)
    ]


def page(frame: pd.DataFrame, runs: Path | None, figures: dict[str, bytes] | None = None) -> str:
    """The report as HTML. If there can be no table (nothing done, rows not comparable), it has the reason instead.

    Args:
        frame: the sweep's rows.
        runs: the run store; None: read ``results/``.
        figures: PNG of every figure by name, if they are drawn already.
    """
    done = frame.protocol.notna()
    parts: dict[str, Any] = {"refused": "", "figures": {}, "findings": [], "published": []}
    try:
        parts["table"] = tables.for_a_reader(frame, lambda s: f"★ {s}")
        figures = figures or {name: png(figure) for name, figure in draw(frame, runs).items()}
        parts["figures"] = {name: (uri(data), shown_width(data)) for name, data in figures.items()}
        parts |= {"notes": f"{floor(frame)} {tables.notes(frame).replace('Bold:', '★:')}", "findings": findings(frame)}
        parts["published"] = tables.published(frame)
    except UserError as error:
        parts["refused"] = str(error)
    along, slides = frames(frame, runs)
    shared, own = configs(frame, runs)
    cells = [(row.title, row.evaluation_id, own.get(row.evaluation_id, {})) for _, row in frame.iterrows()]
    question, _, more = frame.attrs["question"].partition("\n")
    loader = FileSystemLoader(Path(__file__).parent)
    template = Environment(loader=loader, autoescape=select_autoescape()).get_template("report.html")
    return template.render(
        name=frame.attrs["sweep"], question=question, more=more.strip("\n"), words=" ".join(frame.attrs["words"]),
        done=int(done.sum()), missing=list(frame.title[~done]), along=along, slides=slides, shared=shared, cells=cells,
        failures=frame.attrs["failures"], revisions=sorted({*frame.revision.dropna()}), **parts,
    )  # fmt: skip


def write(frame: pd.DataFrame, folder: Path, runs: Path | None, figures: dict[str, bytes] | None = None) -> Path:
    """Writes ``report.html`` in ``folder`` and returns its path; arguments as in `page`."""
    replace(folder / "report.html", page(frame, runs, figures))
    return folder / "report.html"


def show(sweep: str, runs: Path, console: Console) -> None:
    """Prints the table of a sweep in ``runs``, and writes table, figures and report to ``runs/reports``."""
    frame = load(sweep, runs)
    if frame.protocol.isna().all():
        return
    matplotlib.use("agg")
    folder = runs / "reports" / sweep
    drawn = write_figures(draw(frame, runs), folder)
    pngs = {file.stem: file.read_bytes() for file in drawn if file.suffix == ".png"}
    files = [*tables.write(frame, folder), *drawn, write(frame, folder, runs, pngs)]
    console.print(tables.own(frame), highlight=False, markup=False, soft_wrap=True)
    said = [f"- {line}" for line in findings(frame)]
    console.print("", *said, sep="\n", highlight=False, markup=False, soft_wrap=True)
    console.print("written:", ", ".join(str(f) for f in files), highlight=False, soft_wrap=True)


def main(argv: list[str]) -> None:
    matplotlib.use("agg")
    frame, folder, runs = source(argv, __doc__)
    print(write(frame, folder, runs))


if __name__ == "__main__":
    run_command(main)
