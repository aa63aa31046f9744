"""What a launch shows at its end: the table, and the files that it and the figures were written to."""

from pathlib import Path

import matplotlib
from rich.console import Console

from analysis import figures, tables
from analysis.findings import findings
from analysis.results import load


def show(sweep: str, runs: Path, console: Console) -> None:
    """Prints the table of a sweep in ``runs`` and writes table and figures below ``runs/reports``."""
    frame = load(sweep, runs)
    if frame.protocol.isna().all():
        return
    matplotlib.use("agg")
    folder = runs / "reports" / sweep
    files = [*tables.write(frame, folder), *figures.write(frame, folder, runs)]
    console.print(tables.markdown(frame), highlight=False, markup=False, soft_wrap=True)
    console.print("", *(f"- {line}" for line in findings(frame)), sep="\n", highlight=False)
    console.print("written:", ", ".join(str(f) for f in files), highlight=False, soft_wrap=True)
