"""The report of a sweep as one self-contained HTML page."""

import base64
import io
import re
import shlex
import time
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup, escape
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from analysis import orders, tables
from analysis.captions import SETTLED, STAR, compared, rules, to_see
from analysis.figures import draw, png, probe
from analysis.figures.style import tiles
from analysis.findings import findings
from analysis.folders import report_name
from analysis.results import configs, samples
from analysis.scores import named
from lf.core.errors import UserError
from lf.runs import revision
from lf.storage.names import SHORT

MOST_CELLS = 48  # most cells on the slider
COLUMNS = 6
DENSITY = 110 / 160  # CSS pixels per pixel of a figure
ASKED = re.compile(r"\s*\(([^()]*)\)$")  # what a question's sentence ends with, such as (LF Table 1)


def template(name: str) -> Any:
    """A template of this folder."""
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=select_autoescape(), trim_blocks=True).get_template(name)


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


def slider(frame: pd.DataFrame, runs: Path | None) -> dict[str, Any]:
    """What the slider shows: a trajectory if one was measured, which begins at its end; else the cells of a seed.

    Returns:
        ``title``; ``streams``, the name of each row of images; ``start``, the number of the first frame; ``frames``,
        each with a ``label`` and the ``rows`` of images.
    """
    if film := probe.film(frame, runs):
        network, streams = probe.filmed(frame)
        frames = [
            {
                "label": f"Frame {k} of {len(film)}, {network}: {label}",
                "rows": [grid(rows) for rows in images.chunk(len(streams))],
            }
            for k, (label, images) in enumerate(film, 1)
        ]
        title = "Images along the path, from noise (t = 0) to clean (t = 1)"
        return {"title": title, "streams": streams, "start": len(frames) - 1, "frames": frames}
    first = frame[frame.seed == frame.seed.min()]
    files = samples(first, runs)
    shown = first[first.evaluation_id.isin(files)].head(MOST_CELLS)
    frames = [
        {
            "label": f"{cell}, seed {frame.seed.min()}: pixels at t = 1",
            "rows": [grid(load_file(files[name])["images"][: 2 * COLUMNS])],
        }
        for cell, name in zip(named(shown), shown.evaluation_id, strict=True)
    ]
    title = "Images of each cell, from the same noise"
    return {"title": title, "streams": ["pixels"], "start": 0, "frames": frames}


def prose(text: str) -> tuple[list[Markup], list[str]]:
    """The paragraphs of a docstring, with ``code`` as such, and its indented blocks."""
    parts = [part for part in re.split(r"\n\s*\n", text.strip("\n")) if part.strip()]
    blocks = [part for part in parts if all(line.startswith("    ") for line in part.splitlines())]
    return [inline(" ".join(part.split())) for part in parts if part not in blocks], blocks


def inline(text: str) -> Markup:
    """Text as HTML, in which what stands in backticks is code."""
    return Markup(re.sub(r"``?([^`]+)``?", r"<code>\1</code>", str(escape(text))))


def version() -> str:
    """Name, version and licence of this package."""
    try:
        about = metadata("lf")
    except PackageNotFoundError:
        return "lf"
    return f"lf {about['Version']}, {about['License-Expression']} licence"


def commands(frame: pd.DataFrame) -> list[str]:
    """The commands that made the rows, if they were launched here, and this page."""
    name, runs = frame.attrs["launch"], frame.attrs["runs"]
    asked = str(frame.attrs.get("asked") or name)
    launched = ["python", "-m", "sweeps.launch", asked, *frame.attrs["words"]] if name else []
    launched = ["python", "-m", "sweeps.order", *frame.attrs["words"]] if orders.is_search(frame) else launched
    written = ["python", "-m", "analysis.report", report_name(frame) if runs else frame.attrs["sweep"]]
    written += [runs] if runs not in ("", "runs") else [] if runs else ["results"]
    return [shlex.join(words) for words in (launched, written) if words]


def page(frame: pd.DataFrame, runs: Path | None, figures: dict[str, bytes] | None = None) -> str:
    """The report as HTML. If there can be no table (nothing done, rows not comparable), it has the reason instead.

    Args:
        frame: the sweep's rows.
        runs: the run store; None: read ``results/``.
        figures: PNG of every figure by name, if they are drawn already.
    """
    done = frame.protocol.notna()
    parts: dict[str, Any] = {"refused": "", "figures": [], "findings": [], "published": [], "ahead": None}
    try:
        table = tables.for_a_reader(frame, lambda s: STAR + s)
        figures = figures or {name: png(figure) for name, figure in draw(frame, runs).items()}
        ids = orders.identities(frame) if orders.is_search(frame) else tables.identities(frame)
        parts |= {"table": table, "ids": ids, "rules": rules(frame, table)}
        parts["compared"] = inline(compared(frame))
        parts["figures"] = [(uri(data), shown_width(data), to_see(name, frame)) for name, data in figures.items()]
        parts |= {"findings": findings(frame), "published": tables.published(frame), "ahead": tables.ahead_of(frame)}
    except UserError as error:
        parts["refused"] = str(error)
    shared, own = configs(frame, runs)
    cells = [(row, own.get(row["evaluation_id"], {})) for row in frame.to_dict("records")]
    question, _, more = frame.attrs["question"].partition("\n")
    source = ASKED.search(question)
    about, examples = prose(more)
    return template("report.html").render(
        name=report_name(frame), question=inline(ASKED.sub("", question)),
        source=source.group(1) if source else "", about=about, examples=examples,
        done=int(done.sum()), missing=list(frame.title[~done]), slider=slider(frame, runs), shared=shared, cells=cells,
        failures=frame.attrs["failures"], revisions=sorted({*frame.revision.dropna()}), commands=commands(frame),
        version=version(), revision=revision(), written=time.strftime("%Y-%m-%d %H:%M"), short=SHORT, zip=zip,
        settled=SETTLED, **parts,
    )  # fmt: skip
