"""Submits the unfinished tasks of a sweep, monitors them to their end, and resubmits those whose jobs vanished."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lf.core.errors import UserError
from lf.core.runtime import Runtime
from lf.storage.lease import lease
from sweeps.jobs import state
from sweeps.jobs.executors import Executor, Local, Slurm
from sweeps.jobs.profile import Cluster
from sweeps.jobs.records import attempts, fail, job_of, record_attempt
from sweeps.jobs.slurm import SlurmSilent, slurm_unavailable_reason
from sweeps.jobs.snapshot import snapshot
from sweeps.jobs.state import State
from sweeps.jobs.task import TrainEval

console = Console()
MOST_BARS = 30  # with more trainings, only the total has a progress bar


def on_slurm(executor: str) -> bool:
    """Whether jobs run on SLURM: if it is available, unless ``executor`` is ``local``.

    Raises:
        UserError: ``executor`` is ``slurm``, and SLURM is not available.
    """
    if executor == "local":
        return False
    why_not = slurm_unavailable_reason()
    if executor == "slurm" and why_not:
        raise UserError(f"executor=slurm: {why_not}; allowed here: auto, local")
    return not why_not


def share_cores(runtime: Runtime, workers: int) -> Runtime:
    """``runtime`` with this machine's cores divided among ``workers`` jobs, unless it sets the number of threads."""
    threads = runtime.threads or max(1, (os.cpu_count() or 1) // workers)
    return runtime.model_copy(update={"threads": threads})


@dataclass(frozen=True)
class Sweep:
    """A launched sweep: its executor, folder, manifest (``sweep.json``) and tasks."""

    executor: Executor
    folder: Path
    manifest: dict[str, Any]
    train_evals: Sequence[TrainEval]
    retries: int

    @property
    def jobs(self) -> Path:
        """Folder of the records of the tasks' jobs."""
        return self.folder.parents[1] / "jobs"

    def states(self) -> dict[str, State]:
        """Every task's state, by its key."""
        return state.states(self.folder, self.manifest["units"], self.executor.states())

    def job_ids(self, tasks: Iterable[Mapping[str, Any]]) -> list[str]:
        """The job ids of some of the manifest's tasks."""
        return [job["job"] for task in tasks if (job := job_of(self.jobs / task["key"]))]


def run_plan(
    folder: Path, about: Mapping[str, Any], train_evals: Sequence[TrainEval], profile: Cluster, workers: int, *,
    slurm: bool, wait: bool = True, fail_fast: bool = False,
) -> bool:  # fmt: skip
    """Submits tasks and monitors them to their end; returns whether it did, or left them to SLURM.

    If several processes launch the same sweep, they submit one at a time, and only one monitors.

    Args:
        folder: the sweep's folder.
        about: its manifest, without the executor.
        train_evals: trainings and their evaluations.
        profile: the cluster's profile.
        workers: jobs at a time on this machine.
        slurm: whether to run on SLURM instead of this machine.
        wait: whether to monitor jobs on SLURM.
        fail_fast: cancel all jobs at the first failure.
    """
    with lease(folder / "lock"):
        code = snapshot(folder)
        executor: Executor = Slurm(folder, profile, code) if slurm else Local(folder, workers, code)
        manifest = {**about, "executor": "slurm" if slurm else "local", "code": str(code)}
        sweep = Sweep(executor, folder, manifest, train_evals, profile.retries)
        state.write(folder, manifest)
        if slurm:
            submit(sweep)
    try:
        if wait or not slurm:
            with lease(folder / "follower"):
                monitor(sweep, fail_fast)
        elif jobs := _unfinished(sweep):
            executor.resubmit_after([about["asked"], *about["words"], "--no-wait", "--resubmitted"], jobs)
            return False
    except KeyboardInterrupt:
        if not slurm:
            executor.cancel(sweep.job_ids(manifest["units"]))
        hint = "the jobs keep running; the same command monitors them" if slurm else "the same command resumes it"
        console.print(f"stopped; {hint}")
        raise
    return True


def submit(sweep: Sweep) -> dict[str, State]:
    """Submits every task that is not done, queued, running or failed; returns the state of every task before that.

    A task whose job vanished is resubmitted up to ``retries`` times, on another node than its last one.
    """
    found = sweep.states()
    again: dict[str, list[TrainEval]] = {}  # by the node to avoid
    stopped = set[str]()
    for train_eval in sweep.train_evals:
        if train_eval.after and train_eval.after.key in stopped:
            stopped.add(train_eval.tasks[0].key)
            continue
        waiting = [task for task in train_eval.tasks if found[task.key].name in ("new", "vanished")]
        if train_eval.train and state.alive(found[train_eval.train.key]):
            waiting = []  # its evaluations are submitted with it
        avoid = ""
        for task in list(waiting):
            if found[task.key].name != "vanished":
                continue
            before = task.after if train_eval.train in (None, task) else train_eval.train
            row = before.trained.folder / "row.json" if before else None
            if row and not state.has_ended(row):
                continue  # what it waits for is not done yet
            turn = row.stat().st_mtime if row else 0.0
            folder, note = sweep.jobs / task.key, found[task.key].note
            times = state.times_lost(folder, max(sweep.manifest["at"], turn))
            if times > sweep.retries:
                fail(folder, "vanished", f"its job vanished {times} times ({note})")
                stopped.add(task.key)
                waiting = [] if task is train_eval.train else [other for other in waiting if other is not task]
            elif times:
                avoid = _last_node(folder)
                if "out_of_memory" in note:  # killed, so it could not record it itself
                    message = "killed; resubmitted with half the micro-batch"
                    record_attempt(folder, outcome="memory", killed=True, message=message)
        if waiting:
            first = waiting[0] if waiting[0].kind == "train" else None
            others = [task for task in waiting if task is not first]
            again.setdefault(avoid, []).append(TrainEval(first, others))
    for avoid in sorted(again, reverse=True):  # "" last: only these may wait for others, which then have new jobs
        sweep.executor.submit(again[avoid], avoid)
    return found


def _last_node(folder: Path) -> str:
    return next((line["node"] for line in reversed(attempts(folder)) if line.get("node")), "")


def monitor(sweep: Sweep, fail_fast: bool) -> None:
    """Waits until every task is done or failed, and resubmits those whose jobs vanished."""
    tasks, last_state, stages = sweep.manifest["units"], dict[str, str](), set[tuple[str, str]]()
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TimeRemainingColumn())  # fmt: skip
    with Progress(*bars, console=console, disable=not console.is_terminal) as progress:
        total = progress.add_task("all", total=len(tasks), note="")
        bar_of = {task["key"]: progress.add_task(task["title"], total=task["steps"], note="waiting")
                  for task in tasks if task["kind"] == "train" and len(tasks) <= MOST_BARS}  # fmt: skip
        while True:
            try:
                found = submit(sweep)
            except SlurmSilent as silent:
                if last_state.get("") != str(silent):
                    _say(progress, f"SLURM does not answer, waiting: {silent}")
                last_state[""] = str(silent)
                time.sleep(10)
                continue
            for task in tasks:
                now = found[task["key"]]
                if last_state.get(task["key"]) != now.name and now.name not in ("pending", "new"):
                    _say(progress, f"{now.name:<9} {task['kind']:<9} {task['title']}  {now.note}")
                    last_state[task["key"]] = now.name
                if now.stage and (task["key"], now.stage) not in stages:
                    _say(progress, f"{now.name:<9} {task['kind']:<9} {task['title']}  {now.stage}")
                    stages.add((task["key"], now.stage))
                if task["key"] in bar_of:
                    step = task["steps"] if now.name == "done" else now.step
                    note = "" if now.loss is None else f"loss {now.loss:.4f}"
                    progress.update(bar_of[task["key"]], completed=step, note=note or now.stage or now.name)
            over = [key for key, now in found.items() if now.name in state.FINAL]
            progress.update(total, completed=len(over))
            if fail_fast and any(now.name == "failed" for now in found.values()):
                sweep.executor.cancel(sweep.job_ids(tasks))
                return
            if len(over) == len(tasks):
                return
            time.sleep(1 if isinstance(sweep.executor, Local) else 3)


def _say(progress: Progress, line: str) -> None:
    (progress.console if console.is_terminal else console).print(
        line.rstrip(), highlight=False, markup=False, soft_wrap=True
    )


def _unfinished(sweep: Sweep) -> list[str]:
    """Job ids of the tasks that wait or run."""
    found = sweep.states()
    return sweep.job_ids(task for task in sweep.manifest["units"] if found[task["key"]].name not in state.FINAL)
