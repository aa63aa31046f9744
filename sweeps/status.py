"""`python -m sweeps.status NAME [--watch] [--all] [runs=FOLDER]`: how far a sweep is, told by any machine, any time."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lf.door import door
from lf.errors import UserError
from sweeps import cluster, state
from sweeps.state import State

SHOWN = 40  # units that are not done and get a line
ORDER = ("failed", "lost", "held", "blocked", "cancelled", "running", "pending", "new", "done")
COLOURS = {
    "failed": "red",
    "lost": "yellow",
    "held": "red",
    "blocked": "red",
    "cancelled": "yellow",
    "running": "green",
}


def store(words: list[str]) -> Path:
    """The run store that ``runs=FOLDER`` names, or the cluster's profile, or the usual one."""
    given = dict(word.partition("=")[::2] for word in words)
    for key in given:
        if key != "runs":
            raise UserError(f"{key}: unknown key; allowed: runs")
    return Path(given.get("runs") or cluster.load({})[0].runs or "runs").absolute()


def picture(sweep: Path, manifest: Mapping[str, Any], found: Mapping[str, State], everything: bool) -> Group:
    """A line a unit, those in trouble first, and what it comes to."""
    counts = Counter(now.name for now in found.values())
    table = Table("#", "state", "what", "step", "loss", "left", "note", box=None, pad_edge=False)
    table.columns[2].overflow = table.columns[6].overflow = "fold"
    numbered = sorted(enumerate(manifest["units"]), key=lambda pair: ORDER.index(found[pair[1]["key"]].name))
    shown = [pair for pair in numbered if everything or found[pair[1]["key"]].name not in ("done", "new", "pending")]
    shown = shown or numbered
    for number, unit in shown if everything else shown[:SHOWN]:
        now = found[unit["key"]]
        left = "" if now.left is None else time.strftime("%H:%M:%S", time.gmtime(now.left))
        step = f"{now.step:,}/{unit['steps']:,}" if now.step else ""
        loss = "" if now.loss is None else f"{now.loss:.4f}"
        what, note = Text(f"{unit['kind']} {unit['title']}"), Text(now.note)
        table.add_row(str(number), Text(now.name, COLOURS.get(now.name, "")), what, step, loss, left, note)
    hidden = len(numbered) - len(shown if everything else shown[:SHOWN])
    total = ", ".join(f"{counts[name]:,} {name}" for name in ORDER if counts[name])
    rows = _cells_done(sweep.parents[1], manifest, found)
    said = f"{manifest['sweep']}: {rows:,} of {len(manifest['cells']):,} cells done; jobs: {total}"
    return Group(table, Text(said + (f"; {hidden:,} not shown (--all)" if hidden else "")))


def _cells_done(runs: Path, manifest: Mapping[str, Any], found: Mapping[str, State]) -> int:
    known = {row for unit in manifest["units"] if found[unit["key"]].name == "done" for row in unit["rows"]}
    wanted = (f"evaluation/{cell['evaluation_id']}/row.json" for cell in manifest["cells"])
    return sum(row in known or (runs / row).exists() for row in wanted)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m sweeps.status", description=__doc__)
    parser.add_argument("sweep")
    parser.add_argument("--watch", action="store_true", help="again every few seconds, until all is over")
    parser.add_argument("--all", action="store_true", help="every unit, also what is done or waits")
    parser.add_argument("words", nargs="*", metavar="runs=FOLDER")
    options = parser.parse_intermixed_args(argv)
    sweep, manifest = state.read(options.sweep, store(options.words))
    console = Console() if sys.stdout.isatty() else Console(width=200)  # whole lines for grep

    def now() -> tuple[Group, bool]:
        found = state.states(sweep, manifest["units"], state.jobs_of(sweep, manifest))
        over = all(each.name in state.FINAL for each in found.values())
        return picture(sweep, manifest, found, options.all), over

    shown, over = now()
    if not options.watch:
        console.print(shown)
        return
    with Live(shown, console=console, auto_refresh=False) as live:
        while not over:
            time.sleep(3)
            shown, over = now()
            live.update(shown, refresh=True)


if __name__ == "__main__":
    door(main)
