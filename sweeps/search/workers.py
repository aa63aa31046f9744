"""The workers of a search: tasks that share its study, on this machine or as jobs, until all trials have ended."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna

from lf.config import Training
from lf.core import preemption
from lf.core.runtime import Runtime
from lf.storage.atomic import replace
from lf.storage.lease import lease
from sweeps.jobs import state
from sweeps.jobs.monitor import console, run_plan
from sweeps.jobs.profile import Cluster
from sweeps.jobs.task import Task, TrainEval
from sweeps.search.space import Space
from sweeps.search.trials import Trials


def run_trials(
    trials: Trials[Any], space: Callable[[Runtime], Space], training: Training, most: int, workers: int,
    profile: Cluster, manifest: dict[str, Any], *, slurm: bool, after: Task | None = None,
) -> None:  # fmt: skip
    """Runs the workers of a search until ``most`` of its trials have ended.

    Args:
        trials: the trials.
        space: the space that a worker with a given runtime searches.
        training: a training that has the runtime of the workers.
        most: number of trials.
        workers: number of workers.
        profile: the cluster's profile.
        manifest: what the sweep's manifest says, but for its cells and units.
        slurm: whether the workers are jobs on SLURM.
        after: a training that is done first.

    Raises:
        SystemExit: every worker stopped before all trials had ended.
    """
    tasks = [
        Worker(training, (), f"worker {number}", number, most, space=space, after=after) for number in range(workers)
    ]
    if tasks[0].done:
        return
    # A worker is one process; to use more processes, use more workers.
    one = {"nodes": 1, "tasks": 1, "gpus": min(1, profile.shape("evaluate").gpus)}
    profile = profile.model_copy(update={"evaluate": {**profile.evaluate, **one}})
    first = [after] if after else []
    with lease(trials.folder / "lock"):
        trials.begin()
        (trials.folder / "held.json").unlink(missing_ok=True)
        for task in [*first, *tasks]:  # those that failed run again
            (task.folder / "failure.json").unlink(missing_ok=True)
    units = [state.entry(task, task.trained.id, [f"training/{task.trained.id}/row.json"], "") for task in first]
    units += [state.entry(task, "", [task.row], after.key if after else "") for task in tasks]
    groups = [*(TrainEval(task) for task in first), *(TrainEval(None, [task]) for task in tasks)]
    run_plan(trials.folder, {**manifest, "cells": [], "units": units}, groups, profile, workers, slurm=slurm)
    if not tasks[0].done:
        console.print(f"{trials.finished} of {most} trials have ended, and no worker is left; the same command")
        console.print(f"resumes them; python -m sweeps.logs {trials.name} 0 shows the error and the log")
        raise SystemExit(1)


def manifest_of(trials: Trials[Any], words: Sequence[str], question: str) -> dict[str, Any]:
    """What the manifest of a search says, but for its cells and units."""
    return {
        "sweep": trials.name, "asked": trials.name, "words": list(words), "question": question, "at": time.time(),
    }  # fmt: skip


@dataclass(frozen=True)
class Worker(Task):
    """One worker of a search, as a task of a sweep: it runs trials until ``most`` have ended."""

    space: Callable[[Runtime], Space] = field(kw_only=True)
    number: int = 0
    most: int = 0

    @cached_property
    def name(self) -> str:
        """The search's name, ``guidance-ID``."""
        return self.space(self.training.runtime).name

    @cached_property
    def key(self) -> str:
        return f"{self.name}-{self.number}"

    @property
    def kind(self) -> str:
        return "search"

    @property
    def row(self) -> str:
        """The file that exists when the search is finished, relative to the run store."""
        return f"sweeps/{self.name}/trials-{self.most}.jsonl"

    @property
    def done(self) -> bool:
        return (Path(self.training.runtime.runs) / self.row).exists()

    def run(self, smaller: int) -> None:
        """Runs one trial after the other."""
        runtime: Runtime = self.training.runtime
        runtime = runtime.model_copy(update={"batch": max(1, runtime.batch >> smaller)})
        try:
            self._work(Trials(self.space(runtime), Path(runtime.runs)))
        except optuna.exceptions.StorageInternalError as error:
            raise ConnectionError(str(error)) from error  # the database is unreachable: the worker is resubmitted

    def _work(self, trials: Trials[Space]) -> None:
        while trials.finished < self.most:
            if preemption.asked():
                raise preemption.Stopped(preemption.asked())
            with trials.taken(self.most) as trial:
                if trial:
                    trials.run(trial)
            if not trial:
                time.sleep(1)  # other workers run the last trials; if one dies, this worker resumes its trial
        text = "".join(json.dumps(row) + "\n" for row in trials.rows())
        replace(Path(self.training.runtime.runs) / self.row, text)
