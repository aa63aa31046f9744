"""`python -m analysis.export NAME [runs folder]`: copies a sweep's rows, configs, curves and some images to results/.

    python -m analysis.export order_ablation

Images and curves are those of the first seed. Then ``python -m analysis`` writes tables and figures.
"""

import json
import shutil
from pathlib import Path

from analysis import results
from analysis.results import arguments, configs, curves, launched, load, samples
from analysis.scores import best_row
from lf.core.cli import run_command
from lf.core.errors import UserError
from lf.storage.atomic import replace, replace_tensors

IMAGES = 16  # exported images per cell


def export(sweep: str, runs: Path = Path("runs")) -> Path:
    """Copies a sweep's results from a run store to ``results/NAME``; returns this folder.

    Raises:
        UserError: the sweep was not launched in this run store, or none of its cells is done.
    """
    from safetensors.torch import load_file  # imported here: it imports torch

    frame, found = load(sweep, runs), launched(sweep, runs)
    if found is None:
        raise UserError(f"{sweep}: was not launched in {runs}; nothing to export")
    if frame.protocol.isna().all():
        raise UserError(f"{sweep}: nothing is done yet in {runs}")
    folder, (about, rows) = results.RESULTS / sweep, found
    replace(folder / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    replace(folder / "sweep.json", json.dumps({k: v for k, v in about.items() if k != "source"}, indent=1) + "\n")
    replace(folder / "configs.json", json.dumps(configs(frame, runs), indent=1) + "\n")
    replace(folder / "curves.csv", curves(frame, runs).to_csv(index=False))
    shutil.rmtree(folder / "samples", ignore_errors=True)
    shown = frame[frame.seed == frame.seed.min()]
    if "trial" in frame:  # a search: its presets, and images of the unguided and the best trial
        for file in (runs / "sweeps" / sweep).glob("*.yaml"):
            shutil.copy(file, folder)
        shown = frame.loc[[0, best_row(frame)]]
    for name, file in samples(shown, runs).items():
        some = {key: value[:IMAGES] for key, value in load_file(file).items()}
        replace_tensors(folder / "samples" / f"{name}.safetensors", some)
    return folder


def main(argv: list[str]) -> None:
    print(export(*arguments(argv, __doc__)))


if __name__ == "__main__":
    run_command(main)
