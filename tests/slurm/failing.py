"""A folder with sweeps whose cells fail, and what is told of them on a real cluster."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cluster import Cluster
from toy import PATIENCE, PLAIN, WORDS

from lf.core.parsing import merge, overrides

BASE = overrides([*WORDS, "dtype=float32"])  # what the cells of a sweep change

# A sweep of one's own. Which cells it has stands in a file beside it: title → changes to the training.
SWEEP = '''
"""Do the others finish?"""
import json
from pathlib import Path

from sweeps.cells import Cell

def cells(launch):
    for case, changes in json.loads(Path(__file__).with_suffix(".json").read_text()).items():
        training = launch.train(**changes)
        labels = {"case": case, "batch": training.batch, "lr": training.lr}
        yield Cell(labels, training, launch.evaluate())
'''

# A schedule of one's own with a mistake that shows only in a job.
FLAWED = """
import os
from typing import Literal
import torch
from lf.schedules import Schedule, Times

class Flawed(Schedule):
    name: Literal["flawed"] = "flawed"
    streams: int = 1

    def sample(self, n, *, generator=None):
        t = torch.rand(n, 1, generator=generator)
        if "SUBMITIT_EXECUTOR" in os.environ:
            t = t * (1 / (1 - self.streams))  # the mistake
        return Times(t, torch.ones_like(t))

    def curve(self, u):
        return u[..., None]
"""


class Place:
    """A folder to work in: sweeps of one's own, a package with a flawed schedule, and a run store."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder, self.runs, self.cluster = folder, folder / "runs", cluster
        self.env = {**cluster.env, "PYTHONPATH": f"{folder}:{cluster.env['PYTHONPATH']}"}
        (folder / "flawed-1.dist-info").mkdir(parents=True)  # as pip would install it
        (folder / "flawed-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: flawed\nVersion: 1\n")
        (folder / "flawed-1.dist-info" / "entry_points.txt").write_text("[lf.schedules]\nflawed = flawed:Flawed\n")
        self.flaw(FLAWED)

    def flaw(self, source: str) -> None:
        """Writes the schedule's module."""
        (self.folder / "flawed.py").write_text(source)

    def sweep(self, name: str, cells: dict[str, dict[str, Any]], profile: str) -> list[str]:
        """Writes a sweep and the cluster's profile; gives the words that launch it."""
        (self.folder / f"{name}.py").write_text(SWEEP)
        (self.folder / f"{name}.json").write_text(json.dumps({title: merge(BASE, cells[title]) for title in cells}))
        (self.folder / "cluster.toml").write_text(f'runs = "{self.runs}"\n{profile}')
        return [f"{name}.py", "--executor=slurm", *PLAIN, "evaluation.n=8", "evaluation.steps=2"]

    def do(self, command: str, *words: str) -> tuple[int, str]:
        """Runs ``python -m sweeps.command``: exit code and what it said."""
        done = subprocess.run(
            [sys.executable, "-m", f"sweeps.{command}", *words],
            env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def units(self, sweep: str) -> dict[str, dict[str, Any]]:
        """The units of a launched sweep by kind and case: ``train nan``."""
        units = json.loads((self.runs / "sweeps" / sweep / "sweep.json").read_text())["units"]
        return {f"{unit['kind']} {unit['title'].split()[0]}": unit for unit in units}

    def done(self, unit: dict[str, Any]) -> bool:
        """Whether its rows are there."""
        return all((self.runs / row).exists() for row in unit["rows"])

    def failure(self, unit: dict[str, Any]) -> dict[str, Any] | None:
        """What it left when it stopped for good."""
        file = self.runs / "jobs" / unit["key"] / "failure.json"
        return json.loads(file.read_text()) if file.exists() else None

    def attempts(self, unit: dict[str, Any]) -> list[dict[str, Any]]:
        """What its jobs noted."""
        file = self.runs / "jobs" / unit["key"] / "attempts.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def told(self, sweep: str) -> dict[str, str]:
        """What `sweeps.status` says of each unit, in one word."""
        code, out = self.do("status", sweep, "--all")
        assert code == 0, out
        lines = [line.split() for line in out.splitlines() if line[:1].isdigit()]
        return {" ".join(words[3:5]): words[2] for words in lines}
