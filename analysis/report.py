"""`python -m analysis.report NAME [runs folder]`: a sweep as one HTML file that needs nothing else, not even a server.

Question, protocol, table (a click on a column sorts), figures, images with a slider along the path or over the cells,
what sets each cell's config apart, failures.
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

from analysis import figures, measured, tables
from analysis.findings import findings
from analysis.protocol import floor
from analysis.results import configs, load, samples
from lf.door import door
from lf.errors import UserError
from lf.files import replace

SHOWN = 48  # cells that the slider goes over
COLUMNS = 6


def uri(data: bytes) -> str:
    """A PNG as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(data).decode()


def grid(images: Tensor) -> str:
    """Images uint8 ``(n, 3, H, W)`` side by side, as an address."""
    file = io.BytesIO()
    Image.fromarray(measured.tiles(images, COLUMNS)).save(file, "PNG", optimize=True)
    return uri(file.getvalue())


def frames(frame: pd.DataFrame, runs: Path | None) -> tuple[str, list[dict[str, str]]]:
    """What the slider goes over: a trajectory if one was measured, else the cells of the first seed."""
    if film := measured.film(frame, runs):
        return "along the path", [{"label": label, "src": grid(images)} for label, images in film]
    first = frame[frame.seed == frame.seed.min()]
    files = samples(first, runs)
    shown = first[first.evaluation_id.isin(files)].head(SHOWN)
    return "over the cells, with the same noise", [
        {"label": label, "src": grid(load_file(files[name])["images"][: 2 * COLUMNS])}
        for label, name in zip(tables.named(shown), shown.evaluation_id, strict=True)
    ]


def drawn(frame: pd.DataFrame, runs: Path | None) -> dict[str, str]:
    """Every figure as an address."""
    made = {}
    with matplotlib.rc_context(figures.STYLE):
        for name, figure in figures.figures(frame, runs).items():
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=110)
            made[name] = uri(file.getvalue())
    return made


def page(frame: pd.DataFrame, runs: Path | None) -> str:
    """The report. A table that may not be made (nothing done, protocols mixed) is the reason why instead."""
    done = frame.protocol.notna()
    parts: dict[str, Any] = {"refused": "", "figures": {}, "findings": [], "published": []}
    try:
        parts |= {"table": tables.for_a_reader(frame, lambda s: f"★ {s}"), "figures": drawn(frame, runs)}
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


def write(frame: pd.DataFrame, folder: Path, runs: Path | None) -> Path:
    """``report.html`` in ``folder``."""
    replace(folder / "report.html", page(frame, runs))
    return folder / "report.html"


def show(sweep: str, runs: Path, console: Console) -> None:
    """Prints the table of a sweep in ``runs`` and writes table, figures and report below ``runs/reports``."""
    frame = load(sweep, runs)
    if frame.protocol.isna().all():
        return
    matplotlib.use("agg")
    folder = runs / "reports" / sweep
    files = [*tables.write(frame, folder), *figures.write(frame, folder, runs), write(frame, folder, runs)]
    console.print(tables.own(frame), highlight=False, markup=False, soft_wrap=True)
    said = [f"- {line}" for line in findings(frame)]
    console.print("", *said, sep="\n", highlight=False, markup=False, soft_wrap=True)
    console.print("written:", ", ".join(str(f) for f in files), highlight=False, soft_wrap=True)


def main(argv: list[str]) -> None:
    matplotlib.use("agg")
    frame, folder, runs = tables.source(argv, "report")
    print(write(frame, folder, runs))


if __name__ == "__main__":
    door(main)
