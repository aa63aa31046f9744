"""Where the report of a sweep lies in its run store, and the words ``NAME [runs=FOLDER]`` of such commands."""

import json
import re
from argparse import Namespace
from pathlib import Path

import pandas as pd

from analysis import results
from analysis.results import FROM
from lf.config import Training
from lf.core.cli import Parser, store_of
from lf.core.errors import UserError

DATA, SEEDS = str(Training.model_fields["data"].default), [0]  # of a launch without words
TRUNK = "trunk"  # in names: the networks of the launch are specialised
MEANING = "run store; by default runs"


def report_name(frame: pd.DataFrame) -> str:
    """The name of a report's folder: the question's, and what its launch has other than the default data and seed.

    ``order_ablation``; ``order_ablation-digits``; ``order_ablation-photos-3fa2-seeds-0-2-smoke``: images at a path are
    told by their folder's name and their digest, and a smoke run never replaces a real one. Nor do specialised networks
    replace those from scratch: ``order_ablation-trunk``.
    """
    name = frame.attrs["launch"]
    if not name:  # committed rows, a search, or the evaluations of one training
        return str(frame.attrs["sweep"])
    data = dict.fromkeys(_words(frame))
    seeds = sorted(map(int, frame.seed.unique()))
    parts = [TRUNK] if FROM in frame.attrs["words"] else []
    parts += ["+".join(data)] if data and [*data] != [DATA] else []
    if seeds != SEEDS:
        whole = len(seeds) > 1 and seeds == [*range(seeds[0], seeds[-1] + 1)]
        parts += [f"seeds-{seeds[0]}-{seeds[-1]}" if whole else f"seeds-{','.join(map(str, seeds))}"]
    return "-".join([name, *parts, *(["smoke"] if "budget=smoke" in frame.attrs["words"] else [])])


def _words(frame: pd.DataFrame) -> list[str]:
    """A short word for the data of each finished row."""
    done = frame.dropna(subset=["protocol"])
    places = done.data if "data" in done else pd.Series(index=done.index, dtype=object)
    found = []
    for text, place in zip(done.protocol, places, strict=True):
        protocol = json.loads(text)
        path = Path(str(place).partition(":")[2]) if isinstance(place, str) else Path()
        path = path.parent if ".tar" in path.name else path
        word = re.sub(r"[^\w.]+", "-", path.name).strip("-.") or str(protocol["data"])
        digest = protocol.get("data_digest")
        found.append(f"{word}-{digest[:4]}" if digest else word)
    return found


def committed_name(frame: pd.DataFrame) -> str:
    """The name under which rows of a run store are committed: as they were asked for, specialised ones apart."""
    name = str(frame.attrs["sweep"])
    return f"{name}-{TRUNK}" if FROM in frame.attrs["words"] and name == frame.attrs["launch"] else name


def report_folder(frame: pd.DataFrame) -> Path:
    """Folder of the report of rows from a run store."""
    return Path(frame.attrs["runs"]) / "reports" / report_name(frame)


def measured(frame: pd.DataFrame) -> list[Path]:
    """The files of `analysis.probe` for a sweep: that of its run store, and the committed one."""
    places = [results.committed(committed_name(frame))]
    if frame.attrs["runs"]:
        if FROM not in frame.attrs["words"]:  # earlier versions named the folder by the question alone
            places.insert(0, Path(frame.attrs["runs"]) / "reports" / frame.attrs["sweep"])
        places.insert(0, report_folder(frame))
    return [file for place in dict.fromkeys(places) if (file := place / "measured.safetensors").exists()]


def arguments(doc: str | None, meaning: str = MEANING, optional: bool = False) -> Parser:
    """A parser of a command's words ``NAME [runs=FOLDER]``; NAME may be left out if it is ``optional``."""
    parser = Parser(doc)
    kinds = "question, folder of a report, guidance-ID, order-ID or run-ID"
    parser.add_argument("name", metavar="NAME", nargs="?" if optional else None, help=kinds)
    parser.add_argument("runs", metavar="runs=FOLDER", nargs="?", type=store_of, default=Path("runs"), help=meaning)
    return parser


def source(argv: list[str], doc: str | None) -> tuple[pd.DataFrame, Path, Path | None]:
    """The rows, output folder and run store of a command's words ``NAME [runs=FOLDER]``, as of `chosen`."""
    return chosen(arguments(doc, f"{MEANING}; results: the committed rows").parse_args(argv))


def chosen(options: Namespace) -> tuple[pd.DataFrame, Path, Path | None]:
    """The rows, output folder and run store that the words ``NAME [runs=FOLDER]`` mean.

    The folder is in ``FOLDER/reports`` (`report_name`); it is ``results/NAME`` only if FOLDER is the word ``results``.

    Raises:
        UserError: no rows, or no cell is done.
    """
    name, runs = options.name, options.runs
    asked = runs == Path("results")
    if not (asked or runs.is_dir() or runs == Path("runs")):
        raise UserError(f"{runs}: no such run store")
    frame = results.load(name, None if asked else runs)
    if frame.protocol.isna().all():
        raise UserError(f"{name}: nothing is done yet in {frame.attrs['source']}")
    folder = results.RESULTS / name if asked else runs / "reports" / report_name(frame)
    return frame, folder, runs if frame.attrs["runs"] else None
