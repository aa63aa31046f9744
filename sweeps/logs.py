"""`python -m sweeps.logs NAME UNIT [runs=FOLDER]`: what a unit's jobs did, and the end of what the last one printed."""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from lf.door import door
from lf.errors import UserError
from sweeps import state
from sweeps.jobs import attempts, failure_of, job_of
from sweeps.status import store

LINES = 40


def pick(manifest: Mapping[str, Any], which: str) -> list[dict[str, Any]]:
    """The units that a word means: a number of `sweeps.status`, or a part of their titles or keys."""
    units = manifest["units"]
    if which.isdigit() and int(which) < len(units):
        return [units[int(which)]]
    found = [unit for unit in units if which in f"{unit['kind']} {unit['title']}" or which in unit["key"]]
    if not found:
        raise UserError(f"{which}: no such unit; give a number of sweeps.status, or a part of what stands beside it")
    return found


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m sweeps.logs", description=__doc__)
    parser.add_argument("sweep")
    parser.add_argument("unit", help="its number in sweeps.status, or a part of its title")
    parser.add_argument("words", nargs="*", metavar="runs=FOLDER")
    options = parser.parse_intermixed_args(argv)
    sweep, manifest = state.read(options.sweep, store(options.words))
    console = Console(highlight=False, soft_wrap=True)
    for unit in pick(manifest, options.unit):
        folder = sweep.parents[1] / "jobs" / unit["key"]
        console.print(f"{unit['kind']} {unit['title']}", style="bold", markup=False, end="  ")
        console.print(folder, markup=False)
        for line in attempts(folder):
            at = line.get("began") or line.get("ended")
            when = time.strftime("%d %b %H:%M:%S", time.localtime(at)) if at else ""
            if "began" in line:
                console.print(f"  {when}  began as job {line['job']} on {line['node'] or line['host']}")
            else:
                console.print(f"  {when}  {line['outcome']}  {line.get('message', '')}".rstrip(), markup=False)
        why = failure_of(folder)
        if why:
            console.print(f"  {why['kind']}: {why['message']}\n{why['trace']}", markup=False)
        log = Path(job_of(folder).get("log") or ".")
        for file in (log.with_name(log.name.replace(".err", ".out")), log):
            if file.is_file():
                lines = file.read_text(errors="replace").splitlines()
                console.print(f"  {file}, the last {min(LINES, len(lines))} of {len(lines)} lines", markup=False)
                console.print("\n".join(lines[-LINES:]), markup=False)


if __name__ == "__main__":
    door(main)
