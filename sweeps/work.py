"""What runs in a job: a training, or evaluations of one; and what it leaves behind, whatever becomes of it."""

import gc
import hashlib
import json
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import submitit
import torch
from submitit.core.utils import DelayedSubmission

from lf import stop
from lf.config import Evaluation, Training
from lf.evaluate import evaluate
from lf.files import replace
from lf.runs import Run, TrainingRun, evaluation_run, training_run
from lf.train import train
from lf.world import join
from sweeps.failures import classify
from sweeps.jobs import Failure, attempted, attempts, failure_of

SAME = 3  # cells that fail with one traceback hold the rest of their sweep


class Held(Exception):
    """A unit is not begun: it was cancelled, its training is not done, or too many of its sweep failed alike."""


@dataclass(frozen=True)
class Unit:
    """One piece of a sweep that is one job: a training, or some evaluations of a training.

    Attributes:
        training: the training, with the runtime that it runs in.
        evaluations: what to evaluate; empty: the training itself.
        title: what it is, for a person.
    """

    training: Training
    evaluations: tuple[Evaluation, ...] = ()
    title: str = ""

    @cached_property
    def trained(self) -> TrainingRun:
        """Where its training is."""
        return training_run(self.training)

    @cached_property
    def runs(self) -> list[Run]:
        """Where its results are."""
        return [evaluation_run(self.trained, evaluation) for evaluation in self.evaluations] or [self.trained]

    @cached_property
    def key(self) -> str:
        """Its name: equal work, equal name, in any sweep."""
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
        """Where its jobs are noted."""
        return Path(self.training.runtime.runs) / "jobs" / self.key

    @property
    def done(self) -> bool:
        """Whether all its results are there."""
        return all(run.row is not None for run in self.runs)

    def run(self, smaller: int) -> None:
        """Does what is missing of it, with micro-batches halved ``smaller`` times."""
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


class Work:
    """Units as submitit runs them, one after the other: it may be stopped at any moment and is then queued again."""

    def __init__(self, units: Sequence[Unit], sweep: Path):
        self.units, self.sweep = list(units), sweep

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit when the job is to be queued again: what is done is in the run store already."""
        return DelayedSubmission(self)

    def __call__(self) -> str:
        """Runs the units; returns ``done``."""
        for unit in self.units:
            if not unit.done:
                self._run(unit)
        return "done"

    def _run(self, unit: Unit) -> None:
        if (self.sweep / "held.json").exists():
            raise Held(json.loads((self.sweep / "held.json").read_text())["message"])
        if why := failure_of(unit.folder):  # cancelled while it waited
            raise Held(f"{why['kind']}: {why['message']}")
        if unit.evaluations and unit.trained.row is None:  # a checkpoint there is not the last
            raise Held("its training is not done")
        requeue = signal.getsignal(signal.SIGUSR2)  # submitit's
        first = int(os.environ.get("SLURM_PROCID", 0)) == 0
        note = partial(attempted, unit.folder) if first else lambda **_: None
        smaller = sum(bool(line.get("killed")) for line in attempts(unit.folder))  # for want of memory
        node = os.environ.get("SLURMD_NODENAME", "")
        note(began=time.time(), host=socket.gethostname(), node=node, job=_job())
        while True:
            try:
                with stop.on(signal.SIGUSR2):
                    unit.run(smaller)
                note(ended=time.time(), outcome="done")
                return
            except stop.Stopped as stopped:
                note(ended=time.time(), outcome="preempted", message=str(stopped))
                if callable(requeue) and str(stopped) == "SIGUSR2":
                    requeue(signal.SIGUSR2, None)  # does not come back
                raise
            except Exception as error:
                failure = classify(error)
                batch = unit.training.runtime.micro_batch or unit.training.batch
                if failure.kind == "memory" and batch >> (smaller + 1):
                    smaller += 1
                    note(outcome="memory", message=f"{failure.message}; on with micro-batches of {batch >> smaller}")
                    del error  # its traceback holds what filled the memory
                    gc.collect()
                    torch.cuda.empty_cache()
                    continue
                note(ended=time.time(), outcome=failure.kind, message=failure.message)
                if failure.kind != "lost":
                    self._fail(unit, failure)
                raise

    def _fail(self, unit: Unit, failure: Failure) -> None:
        """Leaves word of it and, if others of the sweep failed alike, holds what has not begun."""
        jobs = unit.folder.parent
        replace(unit.folder / "failure.json", json.dumps(asdict(failure), indent=1))
        units = json.loads((self.sweep / "sweep.json").read_text())["units"]
        found = {other["key"]: failure_of(jobs / other["key"]) for other in units}
        alike = [key for key, why in found.items() if why and why["signature"] == failure.signature]
        if failure.kind == "bug" and len(alike) >= SAME:
            message = f"{len(alike)} cells failed alike ({failure.message}); the rest is held: mend it and sweeps.retry"
            replace(self.sweep / "held.json", json.dumps({"message": message, "units": alike}))


def _job() -> str:
    try:
        return str(submitit.JobEnvironment().job_id)
    except RuntimeError:
        return ""
