"""Executors of tasks: a SLURM cluster, or this machine. Both use submitit and have the same interface."""

import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname
from typing import Any

import submitit
import torch
from submitit.helpers import CommandFunction, clean_env

from lf.core.errors import UserError
from lf.storage.atomic import replace
from lf.storage.lease import machine
from sweeps.jobs.profile import Cluster
from sweeps.jobs.records import job_of, kill
from sweeps.jobs.slurm import SILENCE, SlurmSilent, available_nodes, max_array, scancel, slurm_states
from sweeps.jobs.task import Task, TaskRunner, TrainEval


class Executor(ABC):
    """Submits tasks and queries the states of their jobs; each task's job is recorded in its ``job.json``."""

    @abstractmethod
    def submit(self, train_evals: Sequence[TrainEval], avoid: str = "") -> None:
        """Submits all tasks; each starts when the training that it waits for is done.

        Args:
            train_evals: trainings and their evaluations, after those that they wait for.
            avoid: nodes to exclude, in SLURM's notation.
        """

    @abstractmethod
    def states(self) -> dict[str, str]:
        """Job → ``PENDING``, ``RUNNING`` or how it ended; jobs that SLURM no longer lists are missing."""

    @abstractmethod
    def cancel(self, jobs: Iterable[str]) -> None:
        """Cancels jobs."""

    @abstractmethod
    def resubmit_after(self, words: Sequence[str], jobs: Iterable[str]) -> None:
        """Submits a job that runs ``sweeps.launch words`` after ``jobs`` have ended, with any outcome."""


class Slurm(Executor):
    """A SLURM cluster. Trainings form a job array; evaluation arrays depend on it element by element."""

    def __init__(self, sweep: Path, cluster: Cluster, code: Path):
        self.sweep, self.cluster, self.code = sweep, cluster, code

    def submit(self, train_evals: Sequence[TrainEval], avoid: str = "") -> None:
        alike = dict[str, list[TrainEval]]()  # by the training that they wait for; each after it
        for train_eval in train_evals:
            key = train_eval.after.key if train_eval.after and train_eval.waits else ""
            alike.setdefault(key, []).append(train_eval)
        for some in alike.values():
            before = job_of(some[0].after.folder) if some[0].after and some[0].waits else None
            if before is None:
                self._submit(some, avoid, "")
            elif before.get("on") == "slurm":  # else another launcher trains it on its machine: they are submitted then
                self._submit(some, avoid, f"afterok:{before['job']}")

    def _submit(self, train_evals: Sequence[TrainEval], avoid: str, ready: str) -> None:
        limit = min(self.cluster.max_array, max_array())
        # Sorted by number of evaluations, so that the r-th evaluations belong to the first trainings of the array.
        trained = sorted([c for c in train_evals if c.train], key=lambda c: -len(c.evaluations))
        for start in range(0, len(trained), limit):
            some = trained[start : start + limit]
            jobs = self._array([c.train for c in some if c.train], avoid, ready)
            for turn in range(len(some[0].evaluations)):
                behind = [c.evaluations[turn] for c in some if len(c.evaluations) > turn]
                array = f"aftercorr:{jobs[0].partition('_')[0]}" if len(behind) > 1 else f"afterok:{jobs[0]}"
                self._array(behind, avoid, array)
        loose = [task for train_eval in train_evals if not train_eval.train for task in train_eval.evaluations]
        for start in range(0, len(loose), limit):
            self._array(loose[start : start + limit], avoid, ready)

    def _array(self, tasks: Sequence[Task], avoid: str, after: str = "") -> list[str]:
        shape = self.cluster.shape(tasks[0].kind)
        parameters = shape.parameters(**({"kill-on-invalid-dep": "yes"} if after else {}))
        parameters |= {"slurm_dependency": after} if after else {}
        parameters |= (
            {"slurm_exclude": avoid} if avoid and available_nodes() - {avoid} else {}
        )  # there may be no other node to run on
        executor = self._executor(parameters, shape.setup)
        try:
            with _outside():
                handles = executor.submit_array([TaskRunner([task], self.sweep) for task in tasks])
        except UserError as error:
            if not avoid or isinstance(error, SlurmSilent):
                raise
            return self._array(tasks, "", after)  # the other nodes may not have these resources
        for task, handle in zip(tasks, handles, strict=True):
            record_job(task, handle.job_id, "slurm", str(handle.paths.stderr))
        return [handle.job_id for handle in handles]

    def _executor(self, parameters: dict[str, Any], setup: Sequence[str]) -> submitit.AutoExecutor:
        lines = [*setup, environment(self.code)]
        executor = submitit.AutoExecutor(self.sweep.parents[1] / "jobs" / "log", "slurm", slurm_max_num_timeout=10**6)
        try:
            executor.update_parameters(name=f"lf-{self.sweep.name}", slurm_setup=lines, **parameters)
        except (NameError, TypeError, ValueError) as error:
            raise UserError(f"cluster.toml: {error}") from None
        return executor

    def resubmit_after(self, words: Sequence[str], jobs: Iterable[str]) -> None:
        arrays = sorted({job.partition("_")[0] for job in jobs})
        if not arrays:
            return
        small = self.cluster.shape("evaluate").model_copy(update={"nodes": 1, "tasks": 1, "gpus": 0, "hours": 1.0})
        executor = self._executor(
            small.parameters() | {"slurm_dependency": f"afterany:{':'.join(arrays)}"}, small.setup
        )
        with _outside():
            executor.submit(CommandFunction([sys.executable, "-m", "sweeps.launch", *words]))

    def states(self) -> dict[str, str]:
        return slurm_states(self.sweep.parents[1])

    def cancel(self, jobs: Iterable[str]) -> None:
        scancel(jobs)


@contextmanager
def _outside() -> Iterator[None]:
    """Hides the surrounding job, if any, from sbatch; turns sbatch's errors into one-line errors."""
    conf = os.environ.get("SLURM_CONF")
    with clean_env():
        if conf:
            os.environ["SLURM_CONF"] = conf
        try:
            yield
        except submitit.core.utils.FailedJobError as error:
            said = str(error).strip().splitlines()[-1]
            raise (SlurmSilent if SILENCE.search(said) else UserError)(f"sbatch: {said}") from None


class Local(Executor):
    """This machine: at most ``workers`` processes at a time, each for one training and its evaluations."""

    def __init__(self, sweep: Path, workers: int, code: Path):
        self.sweep, self.workers = sweep, workers
        self.waiting: list[TrainEval] = []
        self.running: dict[str, Any] = {}
        self.ended: dict[str, str] = {}
        self.setup = [environment(code)]

    def submit(self, train_evals: Sequence[TrainEval], avoid: str = "") -> None:
        for train_eval in train_evals:
            self.waiting.append(train_eval)
            for task in train_eval.tasks:
                record_job(task, f"waiting-{task.key}", "local", "")
        self.states()

    def states(self) -> dict[str, str]:
        for job, handle in list(self.running.items()):
            if handle.done():
                del self.running[job]
                self.ended[job] = "COMPLETED" if handle.exception() is None else "FAILED"
        while len(self.running) < self.workers and (ready := next((t for t in self.waiting if not t.waits), None)):
            self.waiting.remove(ready)
            tasks = ready.tasks
            handle = self._executor().submit(TaskRunner(tasks, self.sweep))
            self.running[handle.job_id] = handle
            for task in tasks:
                record_job(task, handle.job_id, "local", str(handle.paths.stderr))
        waiting = {f"waiting-{task.key}": "PENDING" for train_eval in self.waiting for task in train_eval.tasks}
        return waiting | self.ended | dict.fromkeys(self.running, "RUNNING")

    def _executor(self) -> submitit.AutoExecutor:
        executor = submitit.AutoExecutor(self.sweep.parents[1] / "jobs" / "log", cluster="local")
        gpus = torch.cuda.device_count()
        executor.update_parameters(timeout_min=7 * 24 * 60, gpus_per_node=gpus, local_setup=self.setup)
        return executor

    def resubmit_after(self, words: Sequence[str], jobs: Iterable[str]) -> None:
        """Does nothing: on this machine the launcher itself waits for all jobs and resubmits them."""

    def cancel(self, jobs: Iterable[str]) -> None:
        kill(job for job in jobs if job in self.running)
        self.waiting.clear()


def environment(code: Path) -> str:
    """The shell command that sets a job's environment: path of the code, and huge pages (10 % faster on a CPU)."""
    return f"export PYTHONPATH={code}:$PYTHONPATH PYTHONSAFEPATH=1 GLIBC_TUNABLES=glibc.malloc.hugetlb=1"


def record_job(task: Task, job: str, where: str, log: str) -> None:
    """Writes a task's ``job.json``: its job, and the submission times of this and earlier jobs."""
    now, before = time.time(), job_of(task.folder).get("submitted", [])
    submitted = before if job.startswith("waiting") else [*before, now]
    told = {
        "job": job,
        "on": where,
        "host": gethostname(),
        "machine": machine(),
        "log": log,
        "at": now,
        "submitted": submitted,
    }
    replace(task.folder / "job.json", json.dumps(told))
