"""`python -m sweeps.launch NAME [--dry-run] [--executor auto|local|slurm] [key=value …]`: runs a sweep.

`--list` names the sweeps; `--dry-run` prints the plan and starts nothing.

Only what is missing is run. A key is a training key (``steps=100``, ``data=digits``, ``network.width=64``), or one of
``preset``, ``seeds``, ``evaluation.*``, ``runtime.*``, ``workers``, ``slurm.*``.
"""

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import Any

import submitit
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from analysis import report
from lf import data
from lf.command import door
from lf.config import Evaluation, Training, help_of, merge, overrides, parse
from lf.errors import UserError, nearest
from lf.evaluate import evaluate
from lf.files import replace
from lf.runs import training_run
from lf.train import train
from sweeps.plan import Cell, Job, Launch, jobs, question, questions, rates, record, why_new

console = Console()


def work(training: Training, evaluations: list[Evaluation]) -> None:
    """One job: trains unless done, then evaluates what is missing."""
    train(training)
    for evaluation in evaluations:
        evaluate(training_run(training), evaluation)


def settings(words: list[str]) -> Launch:
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
    here = shutil.which("sbatch") is not None
    if launch.executor == "slurm" and not here:
        raise UserError("executor=slurm: no sbatch on this machine; allowed here: auto, local")
    return here and launch.executor != "local"


def executor_of(launch: Launch, folder: Path) -> submitit.AutoExecutor:
    """Where jobs are submitted to."""
    slurm = on_slurm(launch)
    given = {"slurm_job_name": "lf", **launch.slurm} if slurm else {"gpus_per_node": torch.cuda.device_count()}
    given = {"timeout_min": 7 * 24 * 60, **given}
    executor = submitit.AutoExecutor(folder / "%j", cluster="slurm" if slurm else "local")
    try:
        executor.update_parameters(**given)
    except (NameError, TypeError, ValueError) as error:
        raise UserError(f"slurm: {error}") from None
    return executor


def workers_of(launch: Launch) -> int:
    """How many jobs run at a time."""
    here = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    return launch.workers or (16 if on_slurm(launch) else here)


def show(name: str, launch: Launch, todo: list[Job]) -> None:
    """The plan: every training with its cells, what is there, what made the rest new, and a forecast."""
    table = Table(
        "training", "state", "cells", "done", "what made it new", title=f"{name}, preset {launch.preset}", box=None
    )
    steps = images = 0
    for job in todo:
        state, missing = job.run.state, job.missing
        steps += 0 if state == "done" else job.training.steps
        images += sum(cell.evaluation.n for cell in missing)
        wanted = [cell.run for cell in missing]
        reason = why_new(job.run) if state != "done" else why_new(wanted[0]) if wanted else ""
        done = str(len(job.cells) - len(missing))
        table.add_row(job.title, "cached" if state == "done" else state, str(len(job.cells)), done, reason)
    console.print(table)
    cost = rates(Path(launch.runtime.runs))
    if steps or images:
        forecast = f"{steps:,} training steps and {images:,} images to do"
        if cost:
            minutes = (steps * cost["step"] + images * cost["image"]) / workers_of(launch) / 60
            forecast += f": about {minutes:.0f} min, {workers_of(launch)} jobs at a time ({cost['step']:.3f} s a step, "
            forecast += f"{cost['image']:.3f} s an image: medians of {cost['source']})"
        console.print(forecast)


def follow(todo: list[Job], launch: Launch, folder: Path) -> dict[str, str]:
    """Submits the jobs, a bounded number at a time, and waits; returns the failures by training id."""
    executor, workers = executor_of(launch, folder), workers_of(launch)
    runtime = launch.runtime
    if not runtime.threads and not on_slurm(launch):  # the cores are shared out among the jobs
        runtime = runtime.model_copy(update={"threads": max(1, (os.cpu_count() or 1) // workers)})
    waiting, failed = list(todo), dict[str, str]()
    running: dict[str, tuple[Job, submitit.Job[None]]] = {}
    bars = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*bars, console=console, disable=not console.is_terminal) as progress:
        shown = {job.run.id: progress.add_task(job.title, total=job.training.steps, note="waiting") for job in todo}
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    job = waiting.pop(0)
                    training = job.training.model_copy(update={"runtime": runtime})
                    handle = executor.submit(work, training, [cell.evaluation for cell in job.missing])
                    running[job.run.id] = job, handle
                    _say(progress, f"started  {job.title}  (job {handle.job_id})")
                for key, (job, handle) in list(running.items()):
                    left = len(job.missing)
                    note = f"{len(job.cells) - left}/{len(job.cells)} evaluated"
                    step = job.training.steps if job.run.row else job.run.progress
                    progress.update(shown[key], completed=step, note=note)
                    if handle.done():
                        del running[key]
                        error = handle.exception()
                        if error or left:
                            failed[key] = _reason(error, handle)
                        outcome = "FAILED  " if key in failed else "finished"
                        _say(progress, f"{outcome} {job.title}  {failed.get(key, note)}")
                time.sleep(1)
        except KeyboardInterrupt:
            for _, handle in running.values():
                handle.cancel()
            console.print("stopped; the same command goes on from the last checkpoints")
            raise
    return failed


def _say(progress: Progress, line: str) -> None:
    (progress.console if console.is_terminal else console).print(line, highlight=False, soft_wrap=True)


def _reason(error: BaseException | None, handle: Any) -> str:
    said = str(error).partition("You can check full logs")[0] if error else "ended without a result"
    lines = [line for line in said.splitlines() if line.strip(" -")]
    return f"{lines[-1]} (log: {handle.paths.stderr})"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        "python -m sweeps.launch", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.epilog = "\n".join(["keys:", *help_of(Launch), *help_of(Training)])
    parser.add_argument("sweep", nargs="?", help="name of the question")
    parser.add_argument("--list", action="store_true", help="name the sweeps")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and start nothing")
    parser.add_argument("--executor", help="auto, local or slurm")
    parser.add_argument("words", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(argv)
    if options.list:
        for name, module in questions().items():
            question_asked = module.__doc__.splitlines()[0]
            console.print(f"{name:<18} {question_asked}", highlight=False, soft_wrap=True)
        return
    if not options.sweep:
        raise UserError("name a sweep, such as order_ablation; --list names them all")
    module = question(options.sweep)
    launch = settings([*options.words, *([f"executor={options.executor}"] if options.executor else [])])
    sample = launch.train()
    data.digest(sample.data, sample.resolution)  # a missing data set is the first thing to know
    cells: list[Cell] = list(module.cells(launch))
    planned = jobs(cells)
    for cell in cells:
        cell.run  # noqa: B018 (every path is built before anything starts)
    show(options.sweep, launch, planned)
    if options.dry_run:
        return
    root = Path(launch.runtime.runs)
    replace(root / "sweeps" / f"{options.sweep}.json", record(options.sweep, cells))
    began = time.monotonic()
    todo = [job for job in planned if job.missing]
    failed = follow(todo, launch, root / "jobs") if todo else {}
    report.show(options.sweep, root, console)
    console.print(f"{len(todo) - len(failed)} jobs done, {len(failed)} failed, {time.monotonic() - began:.0f} s")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    door(main)
