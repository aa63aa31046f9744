"""Submits what is missing of a sweep, waits until all of it is over, and submits again what was lost."""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lf.claims import claim
from lf.config import Runtime
from lf.errors import UserError
from sweeps import state
from sweeps.cluster import Cluster
from sweeps.jobs import Silent, attempted, attempts, fail, job_of
from sweeps.plan import Plan
from sweeps.queue import Chain, Local, Queue, Slurm, answers
from sweeps.snapshot import snapshot
from sweeps.state import State

console = Console()
SHOWN = 30  # trainings that get a line or a bar of their own


def on_slurm(executor: str) -> bool:
    """Whether jobs go to SLURM: where there is one, unless ``executor`` is ``local``.

    Raises:
        UserError: ``slurm`` was asked for, and there is none.
    """
    if executor == "local":
        return False
    why_not = answers()
    if executor == "slurm" and why_not:
        raise UserError(f"executor=slurm: {why_not}; allowed here: auto, local")
    return not why_not


def share_cores(runtime: Runtime, workers: int) -> Runtime:
    """``runtime`` with this machine's cores shared out among ``workers`` jobs, unless it says how many threads."""
    threads = runtime.threads or max(1, (os.cpu_count() or 1) // workers)
    return runtime.model_copy(update={"threads": threads})


def carry_out(
    sweep: Path, about: Mapping[str, Any], planned: Plan, profile: Cluster, workers: int, *,
    slurm: bool, wait: bool = True, fail_fast: bool = False,
) -> bool:  # fmt: skip
    """Submits a plan and follows it to its end; tells whether it did, or left that to SLURM.

    Of several launchers of one sweep one submits at a time, and one follows.

    Args:
        sweep: folder of the sweep.
        about: its manifest, but for where it runs.
        planned: what is to be done.
        profile: the cluster's.
        workers: jobs at a time on this machine.
        slurm: whether it runs on the cluster, or here.
        wait: whether to follow it on the cluster.
        fail_fast: end everything at the first failure.
    """
    with claim(sweep / "lock"):
        code = snapshot(sweep)
        queue: Queue = Slurm(sweep, profile, code) if slurm else Local(sweep, workers, code)
        manifest = {**about, "executor": "slurm" if slurm else "local", "code": str(code)}
        state.write(sweep, manifest)
        if slurm:
            submit(queue, sweep, manifest, planned, profile.retries)
    try:
        if wait or not slurm:
            with claim(sweep / "follower"):
                follow(queue, sweep, manifest, planned, profile.retries, fail_fast)
        elif jobs := under_way(queue, sweep, manifest):
            queue.keep([about["asked"], *about["words"], "--no-wait", "--kept"], jobs)
            return False
    except KeyboardInterrupt:
        if not slurm:
            queue.cancel(_jobs(sweep, manifest["units"]))
        hint = "the jobs go on; the same command follows them" if slurm else "the same command goes on from there"
        console.print(f"stopped; {hint}")
        raise
    return True


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
                queue.cancel(_jobs(sweep, units))
                return
            if len(over) == len(units):
                return
            time.sleep(1 if isinstance(queue, Local) else 3)


def _say(progress: Progress, line: str) -> None:
    (progress.console if console.is_terminal else console).print(
        line.rstrip(), highlight=False, markup=False, soft_wrap=True
    )


def _jobs(sweep: Path, units: Iterable[dict[str, Any]]) -> list[str]:
    """The units' jobs."""
    return [job["job"] for unit in units if (job := job_of(sweep.parents[1] / "jobs" / unit["key"]))]


def under_way(queue: Queue, sweep: Path, manifest: dict[str, Any]) -> list[str]:
    """Jobs of the units that are not over."""
    found = state.states(sweep, manifest["units"], queue.states())
    return _jobs(sweep, (unit for unit in manifest["units"] if found[unit["key"]].name not in state.FINAL))
