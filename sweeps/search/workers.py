"""The workers of a search: tasks that share its study, on this machine or as jobs, until all trials have ended."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import optuna
from pydantic import Field

from lf.core import preemption
from lf.core.errors import UserError, nearest
from lf.core.parsing import overrides, parse
from lf.core.runtime import Runtime
from lf.runs import TrainingRun, find_training
from lf.storage.atomic import replace
from lf.storage.lease import lease
from sweeps.jobs import profile as clusters
from sweeps.jobs import state
from sweeps.jobs.monitor import console, on_slurm, run_plan, share_cores
from sweeps.jobs.task import Task, TrainEval
from sweeps.search.space import Search, Space
from sweeps.search.trials import Trials


class SearchLaunch(Search):
    """The settings of a search's launch."""

    trials: int = Field(50, ge=1, description="number of trials")
    workers: int = Field(1, ge=1, description="processes that evaluate; on SLURM each is a job")
    executor: Literal["auto", "local", "slurm"] = "auto"
    cluster: dict[str, Any] = Field({}, description="overrides of cluster.toml")
    data: str = Field("", description="where the training's images are now; by default where they were")
    runtime: Runtime = Runtime()


def settings(words: Sequence[str]) -> SearchLaunch:
    """The search settings of ``key=value`` words."""
    given = overrides(words)
    for key in given:
        if key not in SearchLaunch.model_fields:
            raise UserError(f"{key}: unknown key; {nearest(key, SearchLaunch.model_fields)}")
    return parse(SearchLaunch, given, "guidance")


def search(run: str, words: Sequence[str], question: str = "") -> Trials:
    """Runs a search's workers until all of its trials have ended; returns the trials.

    Args:
        run: training run: id or folder.
        words: ``key=value`` as on the command line, such as ``["trials=20", "scale.pixels=[1,3,0.25]"]``.
        question: text for the manifest and the report.

    Raises:
        UserError: an unknown run or key, or a space that does not fit the run.
        SystemExit: every worker stopped before all trials had ended.
    """
    asked = settings(words)
    slurm = on_slurm(asked.executor)
    profile, _ = clusters.load(asked.cluster)
    runtime = profile.placed(asked.runtime)
    runs = Path(runtime.runs).absolute()
    runtime = runtime.model_copy(update={"runs": str(runs)})
    trained = find_training(run, runtime if slurm else share_cores(runtime, asked.workers), asked.data)
    what = Search.model_validate(asked.model_dump(include=set(Search.model_fields)))
    trials = Trials(Space(what, trained), runs)
    folder = str(trained.folder.absolute())
    workers = [
        Worker(trained.training, (), f"worker {number}", what, folder, number, asked.trials)
        for number in range(asked.workers)
    ]
    if workers[0].done:
        return trials
    # A worker is one process; to use more processes, use more workers.
    one = {"nodes": 1, "tasks": 1, "gpus": min(1, profile.shape("evaluate").gpus)}
    profile = profile.model_copy(update={"evaluate": {**profile.evaluate, **one}})
    with lease(trials.folder / "lock"):
        trials.begin()
        (trials.folder / "held.json").unlink(missing_ok=True)
        for worker in workers:  # failed workers run again
            (worker.folder / "failure.json").unlink(missing_ok=True)
    manifest: dict[str, Any] = {
        "sweep": trials.name, "asked": trials.name, "words": list(words), "question": question, "at": time.time(),
        "cells": [], "units": [state.entry(worker, "", [worker.row], "") for worker in workers],
    }  # fmt: skip
    run_plan(
        trials.folder, manifest, [TrainEval(None, [worker]) for worker in workers], profile, asked.workers, slurm=slurm
    )
    if not workers[0].done:
        console.print(f"{trials.finished} of {asked.trials} trials have ended, and no worker is left; the same command")
        console.print(f"resumes them; python -m sweeps.logs {trials.name} 0 shows the error and the log")
        raise SystemExit(1)
    return trials


@dataclass(frozen=True)
class Worker(Task):
    """One worker of a search, as a task of a sweep: it runs trials until ``most`` have ended."""

    search: Search = field(default_factory=Search)
    run_folder: str = ""
    number: int = 0
    most: int = 0

    @cached_property
    def trained(self) -> TrainingRun:
        return find_training(self.run_folder, self.training.runtime, self.training.data)

    @cached_property
    def name(self) -> str:
        """The search's name, ``guidance-ID``."""
        return f"guidance-{Space(self.search, self.trained).id}"

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
        trained = find_training(self.run_folder, runtime, self.training.data)
        try:
            self._work(Trials(Space(self.search, trained), Path(runtime.runs)), trained)
        except optuna.exceptions.StorageInternalError as error:
            raise ConnectionError(str(error)) from error  # the database is unreachable: the worker is resubmitted

    def _work(self, trials: Trials, trained: TrainingRun) -> None:
        while trials.finished < self.most:
            if preemption.asked():
                raise preemption.Stopped(preemption.asked())
            with trials.taken(self.most) as trial:
                if trial:
                    trials.run(trial, trained)
            if not trial:
                time.sleep(1)  # other workers run the last trials; if one dies, this worker resumes its trial
        text = "".join(json.dumps(row) + "\n" for row in trials.rows())
        replace(Path(self.training.runtime.runs) / self.row, text)
