"""Tasks, the units of work of jobs: a training, or evaluations of a training. Every attempt is recorded."""

import gc
import hashlib
import json
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path

import submitit
import torch
from submitit.core.utils import DelayedSubmission

from lf.config import Evaluation, Training
from lf.core import preemption
from lf.core.distributed import join
from lf.core.stages import listening
from lf.evaluate import evaluate
from lf.runs import Run, TrainingRun, evaluation_run, training_run
from lf.storage.atomic import replace
from lf.storage.json_files import read_json
from lf.train import train
from sweeps.jobs.failures import classify
from sweeps.jobs.records import Failure, attempts, failure_of, record_attempt, record_stage

SAME = 3  # so many tasks that fail with the same traceback put the other tasks of the sweep on hold


class NotStarted(Exception):
    """A task is not started: it was cancelled, its training is not done, or its sweep is on hold."""


@dataclass(frozen=True)
class Task:
    """What one job of a sweep does: a training, or some evaluations of a training.

    Attributes:
        training: the training, with its runtime.
        evaluations: evaluations of the training; empty: the training itself.
        title: title in outputs.
        after: the training that must be done before this one, or a search's worker, begins, if any.
    """

    training: Training
    evaluations: tuple[Evaluation, ...] = ()
    title: str = ""
    after: "Task | None" = field(default=None, kw_only=True)

    @cached_property
    def trained(self) -> TrainingRun:
        """The run of its training."""
        return training_run(self.training)

    @cached_property
    def runs(self) -> list[Run]:
        """The runs of its results."""
        return [evaluation_run(self.trained, evaluation) for evaluation in self.evaluations] or [self.trained]

    @cached_property
    def key(self) -> str:
        """Its identity: equal work has an equal key, in any sweep."""
        if not self.evaluations:
            return f"train-{self.trained.id}"
        ids = " ".join(run.id for run in self.runs)
        return f"evaluate-{self.trained.id}-{hashlib.sha256(ids.encode()).hexdigest()[:8]}"

    @property
    def kind(self) -> str:
        """``train`` or ``evaluate``."""
        return "evaluate" if self.evaluations else "train"

    @cached_property
    def folder(self) -> Path:
        """Folder of the records of its jobs."""
        return Path(self.training.runtime.runs) / "jobs" / self.key

    @property
    def done(self) -> bool:
        """Whether all its results exist."""
        return all(run.row is not None for run in self.runs)

    def run(self, smaller: int) -> None:
        """Runs what is not done yet, with micro-batches halved ``smaller`` times."""
        runtime = self.training.runtime
        share = -(-self.training.batch // join(runtime.torch_device).size)
        changes = {
            "micro_batch": max(1, (runtime.micro_batch or share) >> smaller),
            "batch": max(1, runtime.batch >> smaller),
        }
        training = self.training
        if smaller:
            training = training.model_copy(update={"runtime": runtime.model_copy(update=changes)})
        if not self.evaluations:
            train(training)
        for evaluation in self.evaluations:
            evaluate(training_run(training), evaluation)


@dataclass
class TrainEval:
    """One training, if it is not done, and the tasks that evaluate it."""

    train: Task | None
    evaluations: list[Task] = field(default_factory=list)

    @property
    def tasks(self) -> list[Task]:
        """All tasks, in order."""
        return [*([self.train] if self.train else []), *self.evaluations]

    @property
    def after(self) -> Task | None:
        """The training that must be done before its own begins, if any."""
        return self.tasks[0].after

    @property
    def waits(self) -> bool:
        """Whether the training that it waits for is not done."""
        return self.after is not None and not self.after.done


class TaskRunner:
    """Runs tasks one after the other, as a submitit function; a preempted job is requeued and resumes."""

    def __init__(self, tasks: Sequence[Task], sweep: Path):
        self.tasks, self.sweep = list(tasks), sweep

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit when the job is requeued; finished work is already in the run store."""
        return DelayedSubmission(self)

    def __call__(self) -> str:
        """Runs the tasks; returns ``done``."""
        for task in self.tasks:
            if not task.done:
                self._run(task)
        return "done"

    def _run(self, task: Task) -> None:
        if on_hold := read_json(self.sweep / "held.json", "message"):
            raise NotStarted(on_hold["message"])
        if why := failure_of(task.folder):  # cancelled while it waited
            raise NotStarted(f"{why['kind']}: {why['message']}")
        if task.evaluations and task.trained.row is None:  # its checkpoint is not the final one
            raise NotStarted("its training is not done")
        if task.after and not task.after.done:
            raise NotStarted("the training that it waits for is not done")
        requeue = signal.getsignal(signal.SIGUSR2)  # submitit's
        first = int(os.environ.get("SLURM_PROCID", 0)) == 0
        note = partial(record_attempt, task.folder) if first else lambda **_: None
        smaller = sum(bool(line.get("killed")) for line in attempts(task.folder))  # by the OOM killer
        record_stage(task.folder, "")
        node = os.environ.get("SLURMD_NODENAME", "")
        note(began=time.time(), host=socket.gethostname(), node=node, job=_job())
        while True:
            try:
                with preemption.on(signal.SIGUSR2), listening(partial(record_stage, task.folder)):
                    task.run(smaller)
                note(ended=time.time(), outcome="done")
                return
            except preemption.Stopped as stopped:
                note(ended=time.time(), outcome="preempted", message=str(stopped))
                if callable(requeue) and str(stopped) == "SIGUSR2":
                    requeue(signal.SIGUSR2, None)  # does not return
                raise
            except Exception as error:
                failure = classify(error)
                batch = task.training.runtime.micro_batch or task.training.batch
                if failure.kind == "memory" and batch >> (smaller + 1):
                    smaller += 1
                    note(
                        outcome="memory", message=f"{failure.message}; retried with micro-batches of {batch >> smaller}"
                    )
                    del error  # its traceback keeps the memory allocated
                    gc.collect()
                    torch.cuda.empty_cache()
                    continue
                note(ended=time.time(), outcome=failure.kind, message=failure.message)
                if failure.kind != "vanished":
                    self._fail(task, failure)
                raise

    def _fail(self, task: Task, failure: Failure) -> None:
        """Records the failure. If `SAME` tasks failed with the same traceback, puts the other tasks on hold."""
        jobs = task.folder.parent
        replace(task.folder / "failure.json", json.dumps(asdict(failure), indent=1))
        tasks = (read_json(self.sweep / "sweep.json", "units") or {"units": []})["units"]
        found = {other["key"]: failure_of(jobs / other["key"]) for other in tasks}
        alike = [key for key, why in found.items() if why and why["signature"] == failure.signature]
        if failure.kind == "bug" and len(alike) >= SAME:
            message = (
                f"{len(alike)} tasks failed with the same traceback ({failure.message}); "
                "the other tasks are on hold. Fix the cause, then run sweeps.retry."
            )
            replace(self.sweep / "held.json", json.dumps({"message": message, "units": alike}))


def _job() -> str:
    try:
        return str(submitit.JobEnvironment().job_id)
    except RuntimeError:
        return ""
