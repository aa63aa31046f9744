"""Rows of a sweep as a DataFrame: `load("order_ablation")`; `python -m analysis.results NAME` exports them to results/.

A sweep's rows come from the run store if it was launched there, else from the committed ``results/NAME/rows.jsonl``.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from lf.door import door
from lf.errors import UserError, nearest
from lf.files import replace

RESULTS = Path(__file__).parents[1] / "results"
PROTOCOL = ("data", "labels", "score", "n", "judging", "weights", "steps", "solver", "t_clip", "latent_noise",
            "guidance", "dtype", "seed")  # fmt: skip
BUDGET = ("steps", "batch", "lr", "network", "ema")


def load(sweep: str, runs: Path | None = Path("runs")) -> pd.DataFrame:
    """One row a cell: its labels, scores (missing where it is not done), ids, and ``protocol`` and ``budget`` as JSON.

    Args:
        sweep: name of the sweep.
        runs: the run store; None, or one in which the sweep was not launched, reads the committed results.

    Raises:
        UserError: no rows anywhere, or rows of several protocols or budgets, which no table may mix.
    """
    rows, source = _rows(sweep, runs)
    frame = pd.DataFrame(rows)
    for kind in ("protocol", "budget"):
        found = [json.loads(text) for text in frame[kind].dropna().unique()]
        if len(found) > 1:
            keys = [key for key in found[0] if any(other[key] != found[0][key] for other in found)]
            raise UserError(f"{sweep}: rows differ in {kind} and cannot share a table: {', '.join(keys)}")
    frame.attrs = {"sweep": sweep, "source": source}
    return frame


def samples(sweep: str, frame: pd.DataFrame, runs: Path | None = Path("runs")) -> dict[str, Path]:
    """File of the kept images of each finished cell, by evaluation id."""
    folder = RESULTS / sweep / "samples"
    found = {}
    for name in frame.evaluation_id.unique():
        here = [
            f
            for f in ((runs or folder) / "evaluation" / name / "samples.safetensors", folder / f"{name}.safetensors")
            if f.exists()
        ]
        if here:
            found[name] = here[0]
    return found


def _rows(sweep: str, runs: Path | None) -> tuple[list[dict[str, Any]], str]:
    manifest = runs / "sweeps" / sweep / "sweep.json" if runs else None
    if runs and manifest and manifest.exists():
        cells = json.loads(manifest.read_text())["cells"]
        return [_row(cell, runs) for cell in cells], f"{runs}/"
    file = RESULTS / sweep / "rows.jsonl"
    if file.exists():
        return [json.loads(line) for line in file.read_text().splitlines()], f"results/{sweep}/"
    known = [f.parent.name for f in RESULTS.glob("*/rows.jsonl")] + [
        f.parent.name for f in (runs or RESULTS).glob("sweeps/*/sweep.json")
    ]
    raise UserError(f"{sweep}: no results yet; {nearest(sweep, known) if known else 'launch it first'}")


def _row(cell: dict[str, Any], runs: Path) -> dict[str, Any]:
    files = [runs / kind / cell[f"{kind}_id"] / "row.json" for kind in ("training", "evaluation")]
    trained, scored = (json.loads(f.read_text()) if f.exists() else {} for f in files)
    config = files[0].with_name("config.json")
    budget = json.loads(config.read_text()) if config.exists() else {}
    scores = {k: v for k, v in scored.items() if isinstance(v, float) and k not in ("t_clip", "seconds")}
    return cell | {
        **scores,
        "protocol": json.dumps({k: scored[k] for k in PROTOCOL}, sort_keys=True) if scored else None,
        "budget": json.dumps({k: budget[k] for k in BUDGET}, sort_keys=True) if budget else None,
        "n": scored.get("n"),
        "score": scored.get("score"),
        "seconds": scored.get("seconds"),
        "train_seconds": trained.get("seconds"),
        "seconds_per_step": trained.get("seconds_per_step"),
        "parameters": trained.get("parameters"),
        "revision": scored.get("revision"),
        "machine": scored.get("machine"),
    }


def export(sweep: str, runs: Path = Path("runs")) -> Path:
    """Copies a sweep's rows and the first seed's kept images from a run store to ``results/NAME``; returns it."""
    frame = load(sweep, runs)
    if not frame.attrs["source"].startswith(str(runs)):
        raise UserError(f"{sweep}: was not launched in {runs}; nothing to export")
    rows, _ = _rows(sweep, runs)
    if frame.protocol.isna().all():
        raise UserError(f"{sweep}: nothing is done yet in {runs}")
    folder = RESULTS / sweep
    replace(folder / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    shutil.rmtree(folder / "samples", ignore_errors=True)
    (folder / "samples").mkdir()
    first = frame.seed.min()
    for name, file in samples(sweep, frame[frame.seed == first], runs).items():
        shutil.copyfile(file, folder / "samples" / f"{name}.safetensors")
    return folder


def main(argv: list[str]) -> None:
    if len(argv) not in (1, 2):
        raise UserError("usage: python -m analysis.results NAME [runs folder]")
    print(export(argv[0], Path(argv[1] if len(argv) > 1 else "runs")))


if __name__ == "__main__":
    door(main)
