"""A folder to launch sweeps from on a real cluster, undisturbed and disturbed; and what their run stores hold."""

import getpass
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from cluster import Cluster
from safetensors.torch import load_file
from toy import PATIENCE, PLAIN, WORDS, Judged

from lf.storage import checkpoint

EVALUATION = ["evaluation.n=40", "evaluation.steps=4"]

# A sweep of one's own: as many trainings as seeds, an evaluation each.
SWEEP = '''
"""Do they all end?"""
from sweeps.cells import Cell

def cells(launch):
    for seed in launch.seeds:
        labels = {"latent": "none", "model": "pixel_only", "path": "pixel_only", "alpha": None, "seed": seed}
        yield Cell(labels, launch.train(latents=[], schedule="pixel_only", seed=seed), launch.evaluate())
'''

# The same cells with nothing in between: `python one_by_one.py PART PARTS key=value …`
ONE_BY_ONE = """
import sys
from lf.evaluate import evaluate
from lf.train import train
from sweeps.launch import settings
from sweeps.questions import question

part, parts, *words = sys.argv[1:]
for cell in list(question("mine.py")[1].cells(settings(words)))[int(part)::int(parts)]:
    train(cell.training)
    evaluate(cell.trained, cell.evaluation)
"""


class Command:
    """A command that runs, in a process group of its own."""

    def __init__(self, words: Sequence[str], folder: Path, env: dict[str, str], number: int) -> None:
        self.output = folder / f"command-{number}.out"
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                words, cwd=folder, env=env, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def end(self, seconds: float = PATIENCE) -> str:
        """Waits until it ends, which it must do well; gives what it said."""
        code = self.process.wait(seconds)
        said = self.output.read_text()
        assert code == 0, said
        return said

    def kill(self) -> None:
        """Ends it and its children at once."""
        if self.runs:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Place:
    """A folder to launch from, and what is in its run store."""

    def __init__(self, folder: Path, cluster: Cluster, judged: Judged) -> None:
        self.folder, self.cluster = folder, cluster
        self.runs, self.alone = judged(folder / "runs"), judged(folder / "alone")  # the second one for comparison
        (folder / "mine.py").write_text(SWEEP)
        (folder / "one_by_one.py").write_text(ONE_BY_ONE)
        (folder / "cluster.toml").write_text("retries = 50\n[job]\nhours = 1\n")  # hides the user's own
        self.commands: list[Command] = []
        self.env: dict[str, str] = {}  # over the cluster's

    def start(self, *words: str) -> "Command":
        """Starts ``python words`` in the folder."""
        self.commands.append(
            Command([sys.executable, *words], self.folder, self.cluster.env | self.env, len(self.commands))
        )
        return self.commands[-1]

    def close(self) -> None:
        """Ends what was started and still runs, and the jobs."""
        for command in self.commands:
            command.kill()
        self.cluster.run("scancel", f"--user={getpass.getuser()}", check=False)
        self.cluster.wait(lambda: not self.cluster.run("squeue", "--noheader"))

    def launch(self, sweep: str, *words: str, runs: Path | None = None) -> "Command":
        """Starts a launch of ``sweep``."""
        given = [*WORDS, *PLAIN, *EVALUATION, *words, f"runtime.runs={runs or self.runs}"]
        return self.start("-m", "sweeps.launch", sweep, *given)

    def one_by_one(self, runs: Path, *words: str) -> "list[Command]":
        """Starts the cells of ``mine.py`` in two processes, undisturbed."""
        given = [*WORDS, *PLAIN, *EVALUATION, *words, f"runtime.runs={runs}"]
        return [self.start("one_by_one.py", str(part), "2", *given) for part in range(2)]

    def status(self, sweep: str) -> str:
        """What `sweeps.status` says."""
        return self.start("-m", "sweeps.status", sweep, "--all", f"runs={self.runs}").end()

    def units(self, sweep: str) -> list[dict[str, Any]]:
        """The sweep's units; none before it was launched."""
        file = self.runs / "sweeps" / sweep / "sweep.json"
        return json.loads(file.read_text())["units"] if file.exists() else []

    def job(self, unit: dict[str, Any]) -> str:
        """The unit's job, if it has one."""
        file = self.runs / "jobs" / unit["key"] / "job.json"
        return json.loads(file.read_text())["job"] if file.exists() else ""

    def attempts(self, unit: dict[str, Any]) -> list[dict[str, Any]]:
        """What the unit's jobs noted."""
        file = self.runs / "jobs" / unit["key"] / "attempts.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def training(self, unit: dict[str, Any]) -> Path:
        """The folder of the unit's training."""
        return self.runs / "training" / unit["training"]

    def there(self, unit: dict[str, Any]) -> bool:
        """Whether all its rows are there."""
        return all((self.runs / row).exists() for row in unit["rows"])


def within(seconds: float, true: Callable[[], bool]) -> bool:
    """Whether something becomes true in that time."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def rows(runs: Path, kind: str = "evaluation") -> dict[str, dict[str, Any]]:
    """The rows by id, without what the clock and the machine put there."""
    found = {file.parent.name: json.loads(file.read_text()) for file in (runs / kind).glob("*/row.json")}
    noise = {"seconds", "seconds_sampling", "seconds_per_step", "revision", "machine"}
    return {name: {key: row[key] for key in row.keys() - noise} for name, row in found.items()}


def weights(runs: Path) -> dict[str, dict[str, torch.Tensor]]:
    """All tensors of all last checkpoints: weights, averages, optimiser, losses."""
    return {file.parent.name: load_file(file) for file in (runs / "training").glob(f"*/{checkpoint.NAME}")}


def same(some: Path, others: Path, count: int) -> None:
    """Two stores hold ``count`` trainings, and scores and weights that are equal bit by bit."""
    assert rows(some) == rows(others) and rows(some, "training") == rows(others, "training")
    mine, theirs = weights(some), weights(others)
    assert len(rows(some, "training")) == len(mine) == count and mine.keys() == theirs.keys()
    for name, tensors in mine.items():
        assert tensors.keys() == theirs[name].keys()
        assert all(torch.equal(tensor, theirs[name][key]) for key, tensor in tensors.items()), name


def begun_at(folder: Path) -> int:
    """The step that a finished training's last job went on from."""
    row = json.loads((folder / "row.json").read_text())
    steps = json.loads((folder / "config.json").read_text())["steps"]
    return steps - round(row["seconds"] / row["seconds_per_step"])


def processes_of(job: str) -> list[psutil.Process]:
    """The Python processes of a job's tasks."""
    array, _, task = job.partition("_")
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            env = process.environ()
            here = (env.get("SLURM_ARRAY_JOB_ID", env.get("SLURM_JOB_ID")), env.get("SLURM_ARRAY_TASK_ID", ""))
            if here == (array, task) and "SLURM_PROCID" in env and "submitit.core._submit" in process.cmdline():
                found.append(process)
    return found
