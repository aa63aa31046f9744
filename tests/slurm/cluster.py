"""A real SLURM on this machine for tests: `start.sh` and `stop.sh` as an object. The fixtures are in `conftest.py`."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from submitit.slurm.slurm import SlurmJob
from toy import PATIENCE

HERE = Path(__file__).parent
CANNOT = 3  # start.sh's exit status where SLURM cannot start at all
FOREIGN = ("SLURM", "SBATCH_", "SALLOC_", "SRUN_", "SUBMITIT_")  # set where the tests run in some cluster's job
T = TypeVar("T")


class CannotStart(Exception):
    """SLURM cannot start on this machine; says why."""


class Cluster:
    """SLURM with the nodes n1 and n2, of 4 CPUs and 2 pretended GPUs each, and the partitions main and high.

    ``environment`` is what the commands of it start from; ``variables`` such as ``LF_SLURM_MAX_ARRAY="50"`` are for
    ``start.sh``, which lists them.
    """

    def __init__(self, environment: dict[str, str], *words: str, **variables: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lf-slurm-"))
        self._start = [str(HERE / "start.sh"), *words, str(self.folder)]
        self._environment = {k: v for k, v in environment.items() if not k.startswith(FOREIGN)} | variables
        self.env: dict[str, str] = {}  # what commands and jobs of the cluster run with

    def start(self) -> None:
        """Brings up what does not run: everything at first, later a node that was stopped."""
        done = subprocess.run(
            self._start,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        if done.returncode == CANNOT:
            raise CannotStart(done.stderr.strip().removeprefix("error: "))
        assert done.returncode == 0, done.stdout + done.stderr
        source = ["bash", "-c", 'source "$1" && env -0', "bash", str(self.folder / "env")]
        words = subprocess.run(source, env=self._environment, capture_output=True, text=True, check=True).stdout
        self.env = dict(word.split("=", 1) for word in words.split("\0") if word)
        path = [
            str(HERE),
            str(HERE.parent / "helpers"),
            self.env.get("PYTHONPATH", ""),
        ]  # jobs import the tests' modules
        self.env["PYTHONPATH"] = os.pathsep.join(entry for entry in path if entry)

    def stop(self) -> None:
        """Ends it and its jobs, and removes its folder, unless it has to say why SLURM did not come up."""
        made = (self.folder / "slurm.conf").exists()
        if made:
            subprocess.run([HERE / "stop.sh", self.folder], env=self._environment, check=True, timeout=PATIENCE)
        if self.env or not made:
            shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *words: str, check: bool = True, timeout: float = PATIENCE) -> str:
        """Runs a command of the cluster; gives its stdout. Fails with what it said unless ``check`` is false."""
        done = subprocess.run(
            words, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """This process becomes a user of the cluster, for submitit and for the project's own functions."""
        SlurmJob.watcher.clear()  # one for all clusters
        with pytest.MonkeyPatch.context() as patch:
            for key in [key for key in os.environ if key.startswith(FOREIGN)]:
                patch.delenv(key)
            for key, value in self.env.items():
                patch.setenv(key, value)
            yield

    def wait(self, predicate: Callable[[], T], seconds: float = 300) -> T:
        """Waits until ``predicate()`` is true, and gives it; fails with the queue and the nodes otherwise."""
        until = time.monotonic() + seconds
        while not (found := predicate()):
            if time.monotonic() > until:
                said = self.run("squeue", "-a", "-r"), self.run("sinfo", "-N", "-o", "%n %P %T %E")
                pytest.fail(f"not so after {seconds} s:\n" + "\n".join(said))
            time.sleep(0.1)
        return found

    def sbatch(self, script: str, *words: str) -> str:
        """Submits a line of shell; gives the job's id. Its output is lost unless ``--output=`` says where."""
        return self.run("sbatch", "--parsable", "--output=/dev/null", *words, f"--wrap={script}").strip()

    def squeue(self, *jobs: str) -> dict[str, str]:
        """State by job id, array jobs one by one; of jobs that ended a while ago nothing."""
        words = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T", *(f"--jobs={j}" for j in jobs)]
        return dict(line.split("|") for line in self.run(*words, check=not jobs).split())

    def sacct(self, *jobs: str) -> dict[str, str]:
        """The same from accounting, which lags some seconds behind."""
        words = ["sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID,State"]
        lines = self.run(*words, *(f"--jobs={job}" for job in jobs)).splitlines()
        return {line.split("|")[0]: line.split("|")[1].split()[0] for line in lines}

    def show(self, job: str) -> dict[str, str]:
        """What ``scontrol show job`` says, by its names: JobState, Restarts, NodeList, ExitCode, Requeue…"""
        said = self.run("scontrol", "--oneliner", "show", "job", job).splitlines()[0].split()
        return dict(word.split("=", 1) for word in said if "=" in word)

    def node(self, name: str) -> str:
        """The state of a node: idle, mixed, allocated, completing, down…"""
        # Asked for one node alone, SLURM 22 may call it mixed for minutes after its last job.
        said = self.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T")
        return dict(line.split() for line in said.splitlines())[name]

    def stop_node(self, name: str) -> None:
        """A node goes as in a power cut, with all that runs on it; SLURM knows at once, and requeues its jobs."""
        self.run(str(HERE / "stop.sh"), str(self.folder), name)

    def start_node(self, name: str) -> None:
        """It comes back, and so does the other if it was gone."""
        self.start()
        self.wait(lambda: self.node(name) in ("idle", "mixed", "allocated"))

    def clear(self) -> None:
        """Cancels all jobs and waits until the nodes are free, which takes a job that ignores SIGTERM some seconds."""
        jobs = self.run("squeue", "--noheader", "--format=%A").split()
        if jobs:
            self.run("scancel", *sorted(set(jobs)))
        self.wait(lambda: not self.run("squeue", "--noheader"))
        self.wait(lambda: {self.node("n1"), self.node("n2")} == {"idle"})
