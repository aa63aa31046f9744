"""Submits what is missing of a sweep, waits until all of it is over, and submits again what was lost."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sweeps import state
from sweeps.jobs import Silent, attempted, attempts, fail, job_of
from sweeps.plan import Plan
from sweeps.queue import Chain, Local, Queue
from sweeps.state import State

console = Console()
SHOWN = 30  # trainings that get a line or a bar of their own


def submit(queue: Queue, sweep: Path, manifest: dict[str, Any], planned: Plan, retries: int) -> dict[str, State]:
    """Submits what is neither done nor under way nor stopped for good; returns every unit's state before that.

    A unit whose jobs died without a word is submitted again, away from where it died, up to ``retries`` times.
    """
    jobs = sweep.parents[1] / "jobs"
    found = state.states(sweep, manifest["units"], queue.states())
    again: dict[str, list[Chain]] = {}
    for chain in planned.chains:
        waiting = [unit for unit in chain.units if found[unit.key].name in ("new", "lost")]
        if chain.train and state.alive(found[chain.train.key]):
            waiting = []  # its evaluations follow it
        avoid = ""
        for unit in list(waiting):
            if found[unit.key].name != "lost":
                continue
            row = unit.trained.folder / "row.json"
            if unit.kind == "evaluate" and not row.exists():
                continue  # it was never its turn
            turn = row.stat().st_mtime if unit.kind == "evaluate" else 0.0
            times = state.died(jobs / unit.key, max(manifest["at"], turn))
            if times > retries:
                fail(jobs / unit.key, "lost", f"its job ended without a word {times} times ({found[unit.key].note})")
                waiting = [] if unit is chain.train else [other for other in waiting if other is not unit]
            elif times:
                avoid = _last_node(jobs / unit.key)
                if "out_of_memory" in found[unit.key].note:  # killed, so that it could not say so
                    attempted(jobs / unit.key, outcome="memory", killed=True, message="killed; on with half of it")
        if not waiting:
            continue
        first = waiting[0] if waiting[0].kind == "train" else None
        again.setdefault(avoid, []).append(Chain(first, [unit for unit in waiting if unit is not first]))
    for avoid, chains in again.items():
        queue.submit(chains, avoid)
    return found


def _last_node(folder: Path) -> str:
    return next((line["node"] for line in reversed(attempts(folder)) if line.get("node")), "")


def follow(queue: Queue, sweep: Path, manifest: dict[str, Any], planned: Plan, retries: int, fail_fast: bool) -> None:
    """Waits until every unit is done or stopped for good, and submits again what was lost."""
    units, told = manifest["units"], dict[str, str]()
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TimeRemainingColumn())  # fmt: skip
    with Progress(*bars, console=console, disable=not console.is_terminal) as progress:
        total = progress.add_task("all", total=len(units), note="")
        shown = {unit["key"]: progress.add_task(unit["title"], total=unit["steps"], note="waiting")
                 for unit in units if unit["kind"] == "train" and len(units) <= SHOWN}  # fmt: skip
        while True:
            try:
                found = submit(queue, sweep, manifest, planned, retries)
            except Silent as silent:
                if told.get("") != str(silent):
                    _say(progress, f"SLURM does not answer, waiting: {silent}")
                told[""] = str(silent)
                time.sleep(10)
                continue
            for unit in units:
                now = found[unit["key"]]
                if told.get(unit["key"]) != now.name and now.name not in ("pending", "new"):
                    _say(progress, f"{now.name:<9} {unit['kind']:<9} {unit['title']}  {now.note}")
                    told[unit["key"]] = now.name
                if unit["key"] in shown:
                    step = unit["steps"] if now.name == "done" else now.step
                    note = "" if now.loss is None else f"loss {now.loss:.4f}"
                    progress.update(shown[unit["key"]], completed=step, note=note or now.name)
            over = [key for key, now in found.items() if now.name in state.FINAL]
            progress.update(total, completed=len(over))
            if fail_fast and any(now.name == "failed" for now in found.values()):
                queue.cancel(jobs_of(sweep, units))
                return
            if len(over) == len(units):
                return
            time.sleep(1 if isinstance(queue, Local) else 3)


def _say(progress: Progress, line: str) -> None:
    (progress.console if console.is_terminal else console).print(
        line.rstrip(), highlight=False, markup=False, soft_wrap=True
    )


def jobs_of(sweep: Path, units: Iterable[dict[str, Any]]) -> list[str]:
    """The units' jobs."""
    return [job["job"] for unit in units if (job := job_of(sweep.parents[1] / "jobs" / unit["key"]))]


def under_way(queue: Queue, sweep: Path, manifest: dict[str, Any]) -> list[str]:
    """Jobs of the units that are not over."""
    found = state.states(sweep, manifest["units"], queue.states())
    return jobs_of(sweep, (unit for unit in manifest["units"] if found[unit["key"]].name not in state.FINAL))
