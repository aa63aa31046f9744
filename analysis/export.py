"""`python -m analysis.export NAME [runs=FOLDER]`: copies a sweep's rows, configs, curves and some images to results/.

    python -m analysis.export order_ablation
    python -m analysis.export order_ablation --force

``results/`` is that of the working folder. Images and curves are those of the first seed; the measurements of
`analysis.probe` are copied, too. Rows that are there are not replaced by fewer ones, or by ones of another protocol or
budget, without ``--force``. Then ``python -m analysis`` writes tables and figures.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis import orders, results
from analysis.folders import arguments, committed_name, measured
from analysis.protocol import fields
from analysis.results import configs, curves, launched, load, samples
from analysis.scores import best_row
from lf.core.cli import run_command
from lf.core.errors import UserError, few
from lf.storage.atomic import replace, replace_tensors

IMAGES = 16  # exported images per cell
HIDDEN = (
    "source",
    "asked",
    "launch",
)  # of what a launch said: paths of this machine, and its name; words of `runtime.*` and `runs` are left out, too

Row = Mapping[str, Any]


def export(sweep: str, runs: Path = Path("runs"), force: bool = False) -> Path:
    """Copies a sweep's results from a run store to ``results/NAME`` of the working folder; returns this folder.

    A launch with ``from=trunk`` is copied to ``results/NAME-trunk``.

    What it does not replace stays, such as the images of cells that are not among the new rows.

    Args:
        sweep: name of the sweep, ``guidance-ID``, ``order-ID`` or ``run-ID``.
        runs: the run store.
        force: replace rows that are there even by fewer ones, or by ones of another protocol or budget.

    Raises:
        UserError: the sweep was not launched in this run store, none of its cells is done, or rows would be lost.
    """
    from safetensors.torch import load_file  # imported here: it imports torch

    found = launched(sweep, runs)
    if found is None:
        raise UserError(f"{sweep}: was not launched in {runs}; nothing to export")
    frame = load(sweep, runs)
    if frame.protocol.isna().all():
        raise UserError(f"{sweep}: nothing is done yet in {runs}")
    folder, (about, rows) = results.RESULTS / committed_name(frame), found
    file = folder / "rows.jsonl"
    before = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    lost = losses(before, rows)
    if lost and not force:
        raise UserError(f"{folder}: its {len(before)} rows are not replaced: {'; '.join(lost)}; --force replaces them")
    replace(file, "".join(json.dumps(row) + "\n" for row in rows))
    told = {k: v for k, v in about.items() if k not in HIDDEN}
    told["words"] = [word for word in told.get("words", ()) if not word.startswith(("runtime.", "runs="))]
    replace(folder / "sweep.json", json.dumps(told, indent=1) + "\n")
    replace(folder / "configs.json", json.dumps(configs(frame, runs), indent=1) + "\n")
    replace(folder / "curves.csv", curves(frame, runs).to_csv(index=False))
    for probed in measured(frame)[:1]:
        if probed.parent != folder:
            shutil.copy(probed, folder)
    shown = frame[frame.seed == frame.seed.min()]
    if "trial" in frame or orders.is_search(frame):  # its presets, and images of the first and the best
        for preset in (runs / "sweeps" / sweep).glob("*.yaml"):
            shutil.copy(preset, folder)
        shown = orders.shown(frame) if orders.is_search(frame) else frame.loc[[0, best_row(frame)]]
    for name, images in samples(shown, runs).items():
        some = {key: value[:IMAGES] for key, value in load_file(images).items()}
        replace_tensors(folder / "samples" / f"{name}.safetensors", some)
    for name in _replaced(before, rows):
        (folder / "samples" / f"{name}.safetensors").unlink(missing_ok=True)
    return folder


def losses(before: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """What would be lost if the rows ``before`` were replaced by ``rows``; empty if nothing would."""
    old, new, kept = _done(before), _done(rows), {row["evaluation_id"] for row in rows if row.get("protocol")}
    seeds = sorted({row["seed"] for row in old.values()} - {row["seed"] for row in new.values()})
    gone = [row for cell, row in old.items() if cell not in new and row["evaluation_id"] not in kept]
    cells = [row["title"] for row in gone if row["seed"] not in seeds]
    said = [f"no {few([f'seed {seed}' for seed in seeds])}"] if seeds else []
    said += [f"{len(cells)} cells missing ({few(cells)})"] if cells else []
    for kind in ("protocol", "budget"):
        changes: dict[str, None] = {}
        for cell in old.keys() & new.keys():
            was, now = (fields(kind, row[kind]) if row.get(kind) else {} for row in (old[cell], new[cell]))
            keys = was.keys() & now.keys() | {key for key in was.keys() ^ now.keys() if key.startswith("init.")}
            values = {key: (was.get(key, "none"), now.get(key, "none")) for key in keys}
            changes |= {f"{key} {a}→{b}": None for key, (a, b) in values.items() if a != b}
        said += [f"another {kind} ({few(sorted(changes))})"] if changes else []
    return said


def _done(rows: Iterable[Row]) -> dict[str, Row]:
    """The finished rows by their labels."""
    return {json.dumps(_labels(row), sort_keys=True): row for row in rows if row.get("protocol")}


def _labels(row: Row) -> dict[str, Any]:
    names = list(row)
    return {name: row[name] for name in names[: names.index("training_id")] if name != "title"}


def _replaced(before: Sequence[Row], rows: Sequence[Row]) -> set[str]:
    """The evaluations ``before`` whose cells have other ones now."""
    old, new = _done(before), _done(rows)
    kept = {row["evaluation_id"] for row in rows}
    return {old[cell]["evaluation_id"] for cell in old.keys() & new.keys()} - kept


def main(argv: list[str]) -> None:
    parser = arguments(__doc__)
    parser.add_argument("--force", action="store_true", help="replace rows that are there in any case")
    options = parser.parse_args(argv)
    print(export(options.name, options.runs, options.force))


if __name__ == "__main__":
    run_command(main)
