"""`python -m sweeps.launch NAME [key=value …]`: runs a sweep, on SLURM where there is one, else on this machine.

Only what is missing is run. A key is a training key (``steps=100``, ``data=digits``, ``network.width=64``), or one of
``preset``, ``seeds``, ``evaluation.*``, ``runtime.*``, ``cluster.*`` (over cluster.toml), ``workers``, `budget_hours`.
On SLURM the launcher may go at any time (Ctrl-C, `--no-wait`): the jobs go on, `sweeps.status` tells how far they are,
and the same command follows again.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lf import data
from lf.claims import claim
from lf.config import Training, help_of, merge, overrides, parse
from lf.door import door
from lf.errors import UserError, nearest
from lf.evaluate import evaluate
from lf.runs import training_run
from lf.train import train
from sweeps import cluster as clusters
from sweeps import state
from sweeps.jobs import attempts, fail, job_of
from sweeps.plan import Cell, Launch, Plan, forecast, plan, question, questions, why_new
from sweeps.preflight import preflight
from sweeps.queue import Chain, Local, Queue, Slurm, answers
from sweeps.snapshot import snapshot
from sweeps.state import State

console = Console()
SHOWN = 30  # trainings that get a line or a bar of their own


def settings(words: Sequence[str]) -> Launch:
    """A launch from ``key=value`` words; training keys may be given bare."""
    given = overrides(words)
    known = {*Launch.model_fields, *Training.model_fields}
    for key in given:
        if key not in known:
            raise UserError(f"{key}: unknown key; {nearest(key, known)}")
    bare = {
        key: given.pop(key) for key in list(given) if key in Training.model_fields and key not in ("runtime", "seed")
    }
    given["training"] = merge(given.get("training", {}), bare)
    return parse(Launch, given, "launch")


def on_slurm(launch: Launch) -> bool:
    """Whether jobs go to SLURM: where there is one, unless ``executor=local``."""
    if launch.executor == "local":
        return False
    why_not = answers()
    if launch.executor == "slurm" and why_not:
        raise UserError(f"executor=slurm: {why_not}; allowed here: auto, local")
    return not why_not


def workers_of(launch: Launch) -> int:
    """How many jobs run at a time on this machine."""
    return launch.workers or (1 if torch.cuda.is_available() else os.cpu_count() or 1)


def show(name: str, launch: Launch, planned: Plan) -> None:
    """The plan: every training with its cells, what is there, what made the rest new, and a forecast."""
    table = Table(
        "training", "state", "cells", "done", "what made it new", title=f"{name}, preset {launch.preset}", box=None
    )
    for trained, cells in list(planned.trainings.items())[:SHOWN]:
        missing = [cell for cell in cells if cell.run.row is None]
        now = trained.state
        reason = why_new(trained) if now != "done" else why_new(missing[0].run) if missing else ""
        state_shown = "cached" if now == "done" else now
        table.add_row(cells[0].title, state_shown, str(len(cells)), str(len(cells) - len(missing)), reason)
    console.print(table)
    if len(planned.trainings) > SHOWN:
        console.print(f"and {len(planned.trainings) - SHOWN:,} trainings more")
    if planned.steps or planned.images:
        console.print(
            f"{planned.steps:,} training steps and {planned.images:,} images to do{forecast(planned, launch)}"
        )


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
            row = training_run(unit.training).folder / "row.json"
            if unit.kind == "evaluate" and not row.exists():
                continue  # it was never its turn
            turn = row.stat().st_mtime if unit.kind == "evaluate" else 0.0
            times = state.died(jobs / unit.key, max(manifest["at"], turn))
            if times > retries:
                fail(jobs / unit.key, "lost", f"its job ended without a word {times} times ({found[unit.key].note})")
                waiting = [] if unit is chain.train else [other for other in waiting if other is not unit]
            elif times:
                avoid = _last_node(jobs / unit.key)
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
            found = submit(queue, sweep, manifest, planned, retries)
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
                queue.cancel(_jobs(sweep, manifest))
                return
            if len(over) == len(units):
                return
            time.sleep(1 if isinstance(queue, Local) else 3)


def _say(progress: Progress, line: str) -> None:
    (progress.console if console.is_terminal else console).print(
        line.rstrip(), highlight=False, markup=False, soft_wrap=True
    )


def _jobs(sweep: Path, manifest: dict[str, Any]) -> list[str]:
    return [job["job"] for unit in manifest["units"] if (job := job_of(sweep.parents[1] / "jobs" / unit["key"]))]


def _under_way(queue: Queue, sweep: Path, manifest: dict[str, Any]) -> list[str]:
    """Jobs of the units that are not over."""
    found = state.states(sweep, manifest["units"], queue.states())
    units = [unit for unit in manifest["units"] if found[unit["key"]].name not in state.FINAL]
    return [job["job"] for unit in units if (job := job_of(sweep.parents[1] / "jobs" / unit["key"]))]


def chosen(cells: Sequence[Cell], only: str) -> list[Cell]:
    """The cells whose title holds ``only``. Raises `UserError` if none does."""
    found = [cell for cell in cells if only in cell.title or only in cell.run.id]
    if not found:
        raise UserError(f"--only {only}: no such cell; one is called '{cells[0].title}'")
    return found


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        "python -m sweeps.launch", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.epilog = "\n".join(["keys:", *help_of(Launch), *help_of(Training)])
    parser.add_argument("sweep", nargs="?", help="name of the question")
    parser.add_argument("--list", action="store_true", help="name the sweeps")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and start nothing")
    parser.add_argument("--wait", action=argparse.BooleanOptionalAction, default=True, help="follow the jobs (default)")
    parser.add_argument(
        "--kept", action="store_true", help=argparse.SUPPRESS
    )  # by the job that tries again what is lost
    parser.add_argument("--executor", help="auto, local or slurm")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cells whose title holds TEXT")
    parser.add_argument("--force", action="store_true", help="run the cells again; what is there is put aside")
    parser.add_argument("--fail-fast", action="store_true", help="end everything at the first failure")
    parser.add_argument("--local", metavar="CELL", default="", help="run one cell here, in this process, and stop")
    parser.add_argument("words", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(argv)
    if options.list:
        for name, module in questions().items():
            question_asked = module.__doc__.splitlines()[0]
            console.print(f"{name:<18} {question_asked}", highlight=False, soft_wrap=True)
        return
    if not options.sweep:
        raise UserError("name a sweep, such as order_ablation; --list names them all")
    name, module = question(options.sweep)
    options.words += [f"executor={options.executor}"] if options.executor else []
    launch = settings(options.words)
    profile, where = clusters.load(launch.cluster)
    launch = launch.placed(profile)
    sample = launch.train()
    data.digest(sample.data, sample.resolution)  # a missing data set is the first thing to know
    cells: list[Cell] = list(module.cells(launch))
    if options.only or options.local:
        cells = chosen(cells, options.only or options.local)
    if options.local:
        train(cells[0].training)
        console.print_json(data=evaluate(cells[0].trained, cells[0].evaluation))
        return
    if options.force and not options.dry_run:
        for kept in {cell.run for cell in cells} | {cell.trained for cell in cells}:
            kept.put_aside()
    runtime = launch.resolved
    if not runtime.threads and not on_slurm(launch):  # the cores are shared out among the jobs
        runtime = runtime.model_copy(update={"threads": max(1, (os.cpu_count() or 1) // workers_of(launch))})
    planned = plan(cells, runtime, profile.evaluations)
    if options.force and not options.dry_run:  # also what had stopped for good
        for unit in (unit for chain in planned.chains for unit in chain.units):
            (unit.folder / "failure.json").unlink(missing_ok=True)
    show(name, launch, planned)
    here = f"on this machine, {workers_of(launch)} jobs at a time"
    console.print(f"on SLURM, as {where} says" if on_slurm(launch) else here)
    if options.dry_run:
        return
    run(name, options, launch, planned, profile)


def run(name: str, options: argparse.Namespace, launch: Launch, planned: Plan, profile: clusters.Cluster) -> None:
    """Submits a plan, follows it, and shows what came out."""
    root, began, slurm = Path(launch.runtime.runs).absolute(), time.monotonic(), on_slurm(launch)
    sweep = root / "sweeps" / name
    todo = [unit for chain in planned.chains for unit in chain.units if not unit.done]
    if todo:
        preflight(planned, launch, sweep)
    with claim(sweep / "lock"):  # of two launchers one submits, the other finds that done
        code = snapshot(sweep)
        queue: Queue = Slurm(sweep, profile, code) if slurm else Local(sweep, workers_of(launch), code)
        manifest = planned.manifest(name, options.sweep, options.words, "slurm" if slurm else "local", code)
        if options.kept:  # how often something was lost counts on
            manifest["at"] = state.read(name, root)[1]["at"]
        state.write(sweep, manifest)
        if slurm:
            submit(queue, sweep, manifest, planned, profile.retries)
    try:
        if options.wait or not slurm:
            with claim(sweep / "follower"):  # of several one follows and submits what is lost
                follow(queue, sweep, manifest, planned, profile.retries, options.fail_fast)
        elif under_way := _under_way(queue, sweep, manifest):
            queue.keep([options.sweep, *options.words, "--no-wait", "--kept"], under_way)
            console.print(f"submitted; python -m sweeps.status {name} tells how far it is")
            return
    except KeyboardInterrupt:
        if not slurm:
            queue.cancel(_jobs(sweep, manifest))
        hint = "the jobs go on; the same command follows them" if slurm else "the same command goes on from there"
        console.print(f"stopped; {hint}")
        raise
    from analysis import report  # what draws takes a second to import, and only here

    try:
        report.show(name, root, console)
    except Exception as error:  # such as cells of several budgets; that some failed must be said all the same
        console.print(f"no table: {type(error).__name__}: {error}", markup=False, soft_wrap=True)
    found = state.states(sweep, manifest["units"], {})
    failed = [unit for unit in manifest["units"] if found[unit["key"]].name != "done"]
    for unit in failed:
        now = found[unit["key"]]
        console.print(f"{now.name}: {unit['kind']} {unit['title']}: {now.note}", markup=False, soft_wrap=True)
    console.print(f"{len(todo) - len(failed)} jobs done, {len(failed)} failed, {time.monotonic() - began:.0f} s")
    if failed:
        console.print(f"python -m sweeps.logs {name} UNIT tells more, sweeps.retry {name} tries them again")
        raise SystemExit(1)


if __name__ == "__main__":
    door(main)
