"""Where units of work wait and run: a SLURM cluster, or this machine. Both through submitit, alike to the launcher."""

import json
import os
import re
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from socket import gethostname
from typing import Any

import submitit
import torch
from submitit.helpers import clean_env

from lf.errors import UserError
from lf.files import replace
from sweeps.cluster import Cluster
from sweeps.jobs import Silent, job_of, kill, scancel, slurm_states, up
from sweeps.work import Unit, Work

SILENCE = re.compile(r"unable to contact|timed out|connection refused|communication|slow startup", re.I)
"""What sbatch says when the controller is away for a while."""


@dataclass
class Chain:
    """A training, if it is still to be done, and what evaluates it."""

    train: Unit | None
    evaluations: list[Unit] = field(default_factory=list)

    @property
    def units(self) -> list[Unit]:
        """All of it, in order."""
        return [*([self.train] if self.train else []), *self.evaluations]


class Queue(ABC):
    """Takes units and says what has become of their jobs; each unit's job is noted in its ``job.json``."""

    @abstractmethod
    def submit(self, chains: Sequence[Chain], avoid: str = "") -> None:
        """Submits all units; an evaluation starts when its training is done.

        Args:
            chains: what to run.
            avoid: nodes not to run on, as SLURM writes them.
        """

    @abstractmethod
    def states(self) -> dict[str, str]:
        """Job → ``PENDING``, ``RUNNING`` or how it ended; a job that is forgotten is not named."""

    @abstractmethod
    def cancel(self, jobs: Iterable[str]) -> None:
        """Ends jobs."""

    def keep(self, words: Sequence[str], jobs: Iterable[str]) -> None:  # noqa: B027 (a launcher that stays needs none)
        """Sees to it that ``sweeps.launch words`` is run when ``jobs`` are over, where no launcher stays to do it."""


class Slurm(Queue):
    """A SLURM cluster. A training is a task of a job array, and its evaluations the same task of arrays behind it."""

    def __init__(self, sweep: Path, cluster: Cluster, code: Path):
        self.sweep, self.cluster, self.code = sweep, cluster, code

    def submit(self, chains: Sequence[Chain], avoid: str = "") -> None:
        limit = min(self.cluster.max_array, max_array())
        # The more evaluations the earlier: then the r-th evaluations belong to the first tasks of the trainings' array.
        trained = sorted([c for c in chains if c.train], key=lambda c: -len(c.evaluations))
        for start in range(0, len(trained), limit):
            some = trained[start : start + limit]
            jobs = self._array([c.train for c in some if c.train], avoid)
            for turn in range(len(some[0].evaluations)):
                behind = [c.evaluations[turn] for c in some if len(c.evaluations) > turn]
                array = f"aftercorr:{jobs[0].partition('_')[0]}" if len(behind) > 1 else f"afterok:{jobs[0]}"
                self._array(behind, avoid, array)
        loose = [unit for chain in chains if not chain.train for unit in chain.evaluations]
        for start in range(0, len(loose), limit):
            self._array(loose[start : start + limit], avoid)

    def _array(self, units: Sequence[Unit], avoid: str, after: str = "") -> list[str]:
        shape = self.cluster.shape(units[0].kind)
        parameters = shape.parameters(**({"kill-on-invalid-dep": "yes"} if after else {}))
        parameters |= {"slurm_dependency": after} if after else {}
        parameters |= {"slurm_exclude": avoid} if avoid and up() - {avoid} else {}  # there may be no other node
        executor = self._executor(parameters, shape.setup)
        try:
            with _outside():
                handles = executor.submit_array([Work([unit], self.sweep) for unit in units])
        except UserError as error:
            if not avoid or isinstance(error, Silent):
                raise
            return self._array(units, "", after)  # the others may not be of this shape
        for unit, handle in zip(units, handles, strict=True):
            note(unit, handle.job_id, "slurm", str(handle.paths.stderr))
        return [handle.job_id for handle in handles]

    def _executor(self, parameters: dict[str, Any], setup: Sequence[str]) -> submitit.AutoExecutor:
        lines = [*setup, environment(self.code)]
        executor = submitit.AutoExecutor(self.sweep.parents[1] / "jobs" / "log", "slurm", slurm_max_num_timeout=10**6)
        try:
            executor.update_parameters(name=f"lf-{self.sweep.name}", slurm_setup=lines, **parameters)
        except (NameError, TypeError, ValueError) as error:
            raise UserError(f"cluster.toml: {error}") from None
        return executor

    def keep(self, words: Sequence[str], jobs: Iterable[str]) -> None:
        arrays = sorted({job.partition("_")[0] for job in jobs})
        if not arrays:
            return
        small = self.cluster.shape("evaluate").model_copy(update={"nodes": 1, "tasks": 1, "gpus": 0, "hours": 1.0})
        executor = self._executor(
            small.parameters() | {"slurm_dependency": f"afterany:{':'.join(arrays)}"}, small.setup
        )
        with _outside():
            executor.submit(Keeper(words))

    def states(self) -> dict[str, str]:
        return slurm_states(self.sweep.parents[1])

    def cancel(self, jobs: Iterable[str]) -> None:
        scancel(jobs)


class Keeper:
    """Launches a sweep again, from a job of its own."""

    def __init__(self, words: Sequence[str]):
        self.words = list(words)

    def __call__(self) -> None:
        from sweeps import launch

        launch.main(self.words)


@contextmanager
def _outside() -> Iterator[None]:
    """Submitting from inside a job is as from outside; what SLURM refuses is one line."""
    conf = os.environ.get("SLURM_CONF")
    with clean_env():
        if conf:
            os.environ["SLURM_CONF"] = conf
        try:
            yield
        except submitit.core.utils.FailedJobError as error:
            said = str(error).strip().splitlines()[-1]
            raise (Silent if SILENCE.search(said) else UserError)(f"sbatch: {said}") from None


@cache
def answers() -> str:
    """Why jobs cannot be sent to SLURM from here; empty if they can."""
    if shutil.which("sbatch") is None:
        return "no sbatch on this machine"
    done = subprocess.run(["scontrol", "ping"], capture_output=True, text=True)
    return "" if "is UP" in done.stdout else "its controller does not answer (scontrol ping)"


@cache
def max_array() -> int:
    """Tasks that the cluster allows in one array."""
    said = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", said)
    return max(1, int(found[1]) - 1) if found else 1000


class Local(Queue):
    """This machine: a bounded number of processes, each a chain; what is submitted waits here for its turn."""

    def __init__(self, sweep: Path, workers: int, code: Path):
        self.sweep, self.workers = sweep, workers
        self.waiting: list[list[Unit]] = []
        self.running: dict[str, Any] = {}
        self.ended: dict[str, str] = {}
        self.setup = [environment(code)]

    def submit(self, chains: Sequence[Chain], avoid: str = "") -> None:
        for chain in chains:
            self.waiting.append(chain.units)
            for unit in chain.units:
                note(unit, f"waiting-{unit.key}", "local", "")
        self.states()

    def states(self) -> dict[str, str]:
        for job, handle in list(self.running.items()):
            if handle.done():
                del self.running[job]
                self.ended[job] = "COMPLETED" if handle.exception() is None else "FAILED"
        while self.waiting and len(self.running) < self.workers:
            units = self.waiting.pop(0)
            handle = self._executor().submit(Work(units, self.sweep))
            self.running[handle.job_id] = handle
            for unit in units:
                note(unit, handle.job_id, "local", str(handle.paths.stderr))
        waiting = {f"waiting-{unit.key}": "PENDING" for units in self.waiting for unit in units}
        return waiting | self.ended | dict.fromkeys(self.running, "RUNNING")

    def _executor(self) -> submitit.AutoExecutor:
        executor = submitit.AutoExecutor(self.sweep.parents[1] / "jobs" / "log", cluster="local")
        gpus = torch.cuda.device_count()
        executor.update_parameters(timeout_min=7 * 24 * 60, gpus_per_node=gpus, local_setup=self.setup)
        return executor

    def cancel(self, jobs: Iterable[str]) -> None:
        kill(job for job in jobs if job in self.running)
        self.waiting.clear()


def environment(code: Path) -> str:
    """What a job's shell sets: where the code is; huge pages, with which a step on a CPU takes a tenth less."""
    return f"export PYTHONPATH={code}:$PYTHONPATH PYTHONSAFEPATH=1 GLIBC_TUNABLES=glibc.malloc.hugetlb=1"


def note(unit: Unit, job: str, where: str, log: str) -> None:
    """Writes a unit's ``job.json``: its job, and when it and those before it were submitted."""
    now, before = time.time(), job_of(unit.folder).get("submitted", [])
    submitted = before if job.startswith("waiting") else [*before, now]
    told = {"job": job, "on": where, "host": gethostname(), "log": log, "at": now, "submitted": submitted}
    replace(unit.folder / "job.json", json.dumps(told))
