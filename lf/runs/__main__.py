"""`python -m lf.runs [WORD …] [runs=FOLDER]`: lists the runs of a store; `rm` and `gc` remove some.

    python -m lf.runs
    python -m lf.runs tiny cascaded --json
    python -m lf.runs rm 3f2a --evaluations --dry-run
    python -m lf.runs gc --dry-run

WORDs choose runs: the start of an identity, or parts of what a run is, of its data, its state or its sweep's cell, such
as ``order_ablation``, ``"alpha 4"``, ``begun``. The first column is what ``run=`` takes; so is any other unique start
of the identity, or the name of a cell: ``run="order_ablation: tiny cascaded seed 0"``.

``rm WORD …`` removes the runs that are meant by all WORDs; a training that an evaluation needs stays, unless
``--evaluations`` removes those too. ``gc`` removes what no run needs: archived runs, runs that never began, leftovers
of killed processes, and the previous checkpoints of trainings that are done.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from lf.core.cli import Parser, run_command
from lf.core.errors import UserError
from lf.runs.listing import KINDS, Entry, as_json, entries, shortened
from lf.runs.removal import Removal, named, unneeded
from lf.runs.words import grouped
from lf.storage.names import SHORT

AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def listing(found: Sequence[Entry]) -> Table:
    """A table of runs, the latest last, at most 80 columns wide on a terminal of 80."""
    table = Table("run", "what", "state", "steps", "best", "size", "age", box=None, pad_edge=False)
    for column in (3, 4, 5, 6):
        table.columns[column].justify = "right"
    table.columns[1].overflow = "fold"
    for column in (0, 2, 3, 4, 5, 6):
        table.columns[column].no_wrap = True
    length = _short([entry.id for entry in found])
    for entry in found:
        steps = f"{entry.step:,}" if entry.step == entry.steps else f"{entry.step:,}/{entry.steps:,}"
        score = next((f"{value:.4g}" for value in entry.scores.values()), "")
        kind = "" if entry.kind == "training" else f"{entry.kind} "
        table.add_row(
            Text(entry.id[:length]), Text(f"{kind}{entry.what}, {shortened(entry.data)}"), entry.state,
            steps if entry.steps else "", score, decimal(entry.bytes), age(time.time() - entry.changed),
        )  # fmt: skip
    return table


def _short(ids: Sequence[str]) -> int:
    """The fewest characters, at least `SHORT`, that tell all identities apart."""
    pairs = pairwise(sorted(ids))
    return max([SHORT, *(len(os.path.commonprefix(pair)) + 1 for pair in pairs)])


def age(seconds: float) -> str:
    """A time span in its largest unit: ``3 d``."""
    unit, name = next(((unit, name) for unit, name in AGES if seconds >= unit), (1, "s"))
    return f"{max(0, seconds) / unit:.0f} {name}"


def remove(removals: Sequence[Removal], dry: bool) -> None:
    """Prints and, unless ``dry``, carries out what was asked for."""
    for removal in removals:
        if not dry:
            removal.carry_out()
        print(f"{decimal(removal.bytes):>9}  {removal.path}  {removal.why}")
    total = decimal(sum(removal.bytes for removal in removals))
    print(f"{total} {'would be removed; nothing was (--dry-run)' if dry else 'removed'}")


class Asked(NamedTuple):
    """What a command line asks for: ``list``, ``rm`` or ``gc``, of which runs in which store, and the flags."""

    command: str
    words: list[str]
    runs: Path
    flags: argparse.Namespace


def asked(argv: list[str]) -> Asked:
    """The words of the command. Raises `UserError` if they contradict each other."""
    parser = Parser(__doc__)
    parser.add_argument("words", nargs="*", metavar="[rm | gc] WORD … runs=FOLDER")
    parser.add_argument("--all", action="store_true", help="list evaluations too")
    parser.add_argument("--json", action="store_true", help="print every field of every run, evaluations too")
    parser.add_argument("--evaluations", action="store_true", help="rm: of a training, its evaluations too")
    parser.add_argument("--dry-run", action="store_true", help="rm, gc: print what would be removed, remove nothing")
    flags = parser.parse_intermixed_args(argv)
    runs = [word.partition("=")[2] for word in flags.words if word.startswith("runs=")]
    words = grouped(word for word in flags.words if not word.startswith("runs="))
    command = words.pop(0) if words and words[0] in ("rm", "gc") else "list"
    if command == "gc" and words:
        raise UserError(f"gc takes no words ('{words[0]}'); rm removes the runs that words mean")
    if command == "rm" and not words:
        raise UserError("rm: which runs? Give the start of an identity, or words; `python -m lf.runs` lists them")
    return Asked(command, words, Path(runs[-1] if runs else "runs").expanduser(), flags)


def main(argv: list[str]) -> None:
    command, words, runs, flags = asked(argv)
    if not runs.is_dir():
        raise UserError(f"runs={runs}: no such run store; a training or a launch makes one")
    if command == "list":
        show(runs, words, flags.all, flags.json)
    else:
        remove(unneeded(runs) if command == "gc" else named(runs, words, flags.evaluations), flags.dry_run)


def show(runs: Path, words: Sequence[str], everything: bool, as_text: bool) -> None:
    """Prints the runs that are meant by all words: trainings and tokenizers, or everything; or all as JSON."""
    there = entries(runs)
    found = [entry for entry in there if entry.means(words)]
    if as_text:
        print(as_json(found))
        return
    shown = [entry for entry in found if everything or entry.kind != "evaluation"]
    if not shown and words:
        raise UserError(f"{' '.join(words)}: no such run in {runs}; without words, all {len(there):,} are listed")
    console = Console() if sys.stdout.isatty() else Console(width=200)  # whole lines for grep
    console.print(listing(shown))
    counts = {kind: sum(entry.kind == kind for entry in found) for kind in KINDS}
    told = ", ".join(f"{count:,} {kind}s" for kind, count in counts.items() if count)
    hidden = "" if everything or not counts["evaluation"] else "; --all lists evaluations too"
    size = decimal(sum(entry.bytes for entry in found))
    console.print(f"{runs}: {told or 'no runs yet'}, {size}{hidden}", markup=False, highlight=False)


if __name__ == "__main__":
    run_command(main)
