"""`python -m sweeps.status NAME [--watch] [--all] [runs=FOLDER]`: the state of a sweep.

    python -m sweeps.status order_ablation --watch
    python -m sweeps.status order_ablation runs=/data/lf/runs

It shows state, step, loss, time left and last error of every task, on any machine with access to the run store.
"""

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

from lf.core.cli import Parser, run_command
from lf.storage.names import SHORT
from sweeps.jobs import state
from sweeps.jobs.state import State

MOST_LINES = 40  # most tasks listed without --all
ORDER = ("failed", "vanished", "on_hold", "blocked", "cancelled", "running", "pending", "new", "done")
COLOURS = {
    "failed": "red",
    "vanished": "yellow",
    "on_hold": "red",
    "blocked": "red",
    "cancelled": "yellow",
    "running": "green",
}


def status_table(sweep: Path, manifest: Mapping[str, Any], found: Mapping[str, State], everything: bool) -> Group:
    """One line per task, failures first, and a line with the totals."""
    counts = Counter(now.name for now in found.values())
    table = Table("#", "run", "state", "what", "step", "loss", "left", "note", box=None, pad_edge=False)
    table.columns[3].overflow = table.columns[7].overflow = "fold"
    numbered = sorted(enumerate(manifest["units"]), key=lambda pair: ORDER.index(found[pair[1]["key"]].name))
    shown = [pair for pair in numbered if everything or found[pair[1]["key"]].name not in ("done", "new", "pending")]
    shown = shown or numbered
    for number, task in shown if everything else shown[:MOST_LINES]:
        now = found[task["key"]]
        left = "" if now.left is None else time.strftime("%H:%M:%S", time.gmtime(now.left))
        step = f"{now.step:,}/{task['steps']:,}" if now.step else ""
        loss = "" if now.loss is None else f"{now.loss:.4f}"
        what, note = Text(f"{task['kind']} {task['title']}"), Text(", ".join(filter(None, (now.note, now.stage))))
        table.add_row(
            str(number),
            task["training"][:SHORT],
            Text(now.name, COLOURS.get(now.name, "")),
            what,
            step,
            loss,
            left,
            note,
        )
    hidden = len(numbered) - len(shown if everything else shown[:MOST_LINES])
    total = ", ".join(f"{counts[name]:,} {name}" for name in ORDER if counts[name])
    rows = _cells_done(sweep.parents[1], manifest, found)
    said = f"{manifest['sweep']}: {rows:,} of {len(manifest['cells']):,} cells done; jobs: {total}"
    return Group(table, Text(said + (f"; {hidden:,} not shown (--all)" if hidden else "")))


def _cells_done(runs: Path, manifest: Mapping[str, Any], found: Mapping[str, State]) -> int:
    known = {row for task in manifest["units"] if found[task["key"]].name == "done" for row in task["rows"]}
    wanted = (f"evaluation/{cell['evaluation_id']}/row.json" for cell in manifest["cells"])
    return sum(row in known or state.has_ended(runs / row) for row in wanted)


def main(argv: list[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument("sweep", metavar="NAME")
    parser.add_argument("--watch", action="store_true", help="refresh every few seconds, until all tasks have ended")
    parser.add_argument("--all", action="store_true", help="list all tasks, also those that are done or wait")
    parser.add_argument("words", nargs="*", metavar="runs=FOLDER")
    options = parser.parse_intermixed_args(argv)
    sweep, manifest, _ = state.chosen(options.sweep, options.words)
    console = Console() if sys.stdout.isatty() else Console(width=200)  # whole lines for grep

    def now() -> tuple[Group, bool]:
        found = state.states(sweep, manifest["units"], state.jobs_of(sweep, manifest))
        over = all(each.name in state.FINAL for each in found.values())
        return status_table(sweep, manifest, found, options.all), over

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
    run_command(main)
