"""Sweeps on a real cluster where all goes wrong: every cell ends, once, with the numbers of an undisturbed run."""

import getpass
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from cluster import Cluster
from safetensors.torch import load_file
from toy import PLAIN, WORDS

from lf import checkpoint
from sweeps import state
from sweeps.state import State

pytestmark = pytest.mark.slow

TABLE = re.compile(r"^\| .*$", re.M)
EVALUATION = ["evaluation.n=40", "evaluation.steps=4"]

# A sweep of one's own: as many trainings as seeds, an evaluation each.
SWEEP = '''
"""Do they all end?"""
from sweeps.plan import Cell

def cells(launch):
    for seed in launch.seeds:
        labels = {"latent": "none", "model": "pixel_only", "path": "pixel_only", "alpha": None, "seed": seed}
        yield Cell(labels, launch.train(latents=[], schedule="pixel_only", seed=seed), launch.evaluate())
'''

# Python runs this first, in launchers and jobs: what must be fitted once is fitted in a second.
QUICK = """
from contextlib import suppress
with suppress(ImportError):
    from lf.metrics import judge
    judge.RECIPE |= {"steps": 80, "batch": 32}
    from sweeps import order_ablation
    order_ablation.LATENTS["shapes"] = ({"name": "pixels", "cells": 2}, {"name": "tiny", "steps": 5, "width": 8})
"""

# The same cells with nothing in between: `python one_by_one.py PART PARTS key=value …`
ONE_BY_ONE = """
import sys
from lf.evaluate import evaluate
from lf.train import train
from sweeps.launch import settings
from sweeps.plan import question

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

    def end(self, seconds: float = 400) -> str:
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

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder, self.runs, self.cluster = folder, folder / "runs", cluster
        (folder / "quick").mkdir(parents=True)
        (folder / "quick" / "sitecustomize.py").write_text(QUICK)
        (folder / "mine.py").write_text(SWEEP)
        (folder / "one_by_one.py").write_text(ONE_BY_ONE)
        (folder / "cluster.toml").write_text("retries = 50\n[job]\nhours = 1\n")  # hides the user's own
        self.commands: list[Command] = []
        self.env = cluster.env | {"PYTHONPATH": f"{folder / 'quick'}:{cluster.env['PYTHONPATH']}"}

    def start(self, *words: str) -> "Command":
        """Starts ``python words`` in the folder."""
        self.commands.append(Command([sys.executable, *words], self.folder, self.env, len(self.commands)))
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


@pytest.fixture
def place(cluster: Cluster, tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, cluster)
    try:
        yield made
    finally:
        made.close()


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


def test_two_launchers_at_once_run_every_cell_once_and_agree_with_one_machine(place: Place) -> None:
    alone = place.folder / "alone"
    tables = [TABLE.findall(place.launch("order_ablation", "executor=local", "workers=2", runs=alone).end())]
    both = [place.launch("order_ablation", "executor=slurm") for _ in range(2)]
    tables += [TABLE.findall(launcher.end()) for launcher in both]
    assert len(tables[0]) == 1 + 18 and tables[0] == tables[1] == tables[2]
    same(place.runs, alone, 4)
    assert len(rows(place.runs)) == 18

    units = place.units("order_ablation")
    assert len(units) == 8
    for unit in units:
        began, over = place.attempts(unit)
        assert began["job"] == place.job(unit) and began["node"] in ("n1", "n2") and over["outcome"] == "done"
    assert set(place.cluster.sacct()) >= {place.job(unit) for unit in units}
    started = list((place.runs / "jobs" / "log").glob("*_0_log.out"))
    assert len(started) == len(units), "a job was submitted twice"


class Watch(threading.Thread):
    """Looks at a sweep as `sweeps.status` does, and at SLURM and the run store by itself, until it is told to stop."""

    SLACK = 6.0  # seconds: SLURM's answer is kept for 3, and it is asked here once a second

    def __init__(self, place: Place, sweep: str) -> None:
        super().__init__(daemon=True)
        self.place, self.sweep, self.over = place, sweep, threading.Event()
        self.queues: list[tuple[float, dict[str, str]]] = []
        self.looks: list[tuple[float, float, dict[str, State], dict[str, set[str]], dict[str, tuple[bool, bool]]]] = []
        self.rows: dict[str, tuple[int, int]] = {}
        self.lies: list[str] = []
        self.broken: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.over.wait(0.7):
                self.queues.append((time.time(), self.place.cluster.squeue()))
                if units := self.place.units(self.sweep):
                    self._look(units)
        except BaseException as error:
            self.broken = error

    def _look(self, units: list[dict[str, Any]]) -> None:
        place = self.place
        sweep, manifest = state.read(self.sweep, place.runs)
        before, jobs, since = {u["key"]: place.there(u) for u in units}, [self._jobs(units)], time.time()
        found = state.states(sweep, units, state.jobs_of(sweep, manifest))
        until, jobs = time.time(), [*jobs, self._jobs(units)]
        after = {u["key"]: place.there(u) for u in units}
        self.queues.append((time.time(), place.cluster.squeue()))
        self.looks.append(
            (since, until, found, {u["key"]: {job[u["key"]] for job in jobs} for u in units},
             {u["key"]: (before[u["key"]], after[u["key"]]) for u in units})
        )  # fmt: skip
        for row in (place.runs / name for unit in units for name in unit["rows"]):
            with suppress(FileNotFoundError):
                stat = row.stat()
                first = self.rows.setdefault(str(row), (stat.st_ino, stat.st_mtime_ns))
                if first != (stat.st_ino, stat.st_mtime_ns):
                    self.lies.append(f"{row}: written twice")

    def _jobs(self, units: list[dict[str, Any]]) -> dict[str, str]:
        return {unit["key"]: self.place.job(unit) for unit in units}

    def stop(self) -> None:
        self.over.set()
        self.join()
        if self.broken:
            raise self.broken

    def untruths(self) -> list[str]:
        """Whatever a look said that SLURM and the run store do not bear out."""
        found = list(self.lies)
        for since, until, states, jobs, there in self.looks:
            near = [queue for at, queue in self.queues if since - self.SLACK <= at <= until + 1]
            for key, now in states.items():
                said = {queue.get(job, "") for queue in near for job in jobs[key]}
                runs = said & {"RUNNING", "COMPLETING", "SIGNALING"}
                waits = said & {"PENDING", "CONFIGURING", "REQUEUED", ""}  # not yet known: just submitted
                true = {
                    "done": there[key][1],
                    "running": bool(runs),
                    "pending": bool(waits or (runs and now.note == "its training")),
                    "lost": bool(said - {"RUNNING", "PENDING", "CONFIGURING"}),
                    "new": "" in jobs[key],
                }.get(now.name, False)  # nothing fails here, nor is cancelled for good
                if not true or (there[key][0] and now.name != "done"):
                    found.append(f"{key}: {now} at {since:.1f}, SLURM: {said}, rows there: {there[key]}")
        return found


class Chaos:
    """Does harm to the jobs of a sweep, by chance, and counts what hit."""

    def __init__(self, place: Place, sweep: str, seed: int) -> None:
        self.place, self.sweep, self.random = place, sweep, random.Random(seed)
        self.hits: Counter[str] = Counter()
        self.saved = 0  # trainings that were hit when they had a checkpoint

    def do(self, plan: dict[str, int], launcher: Command, seconds: float) -> None:
        """Makes every kind of harm hit as often as the plan says, in any order."""
        todo = [kind for kind, times in plan.items() for _ in range(times)]
        self.random.shuffle(todo)
        until = time.monotonic() + seconds
        while todo:
            assert launcher.runs, f"it was over before {todo} could hit; {self.hits}"
            assert time.monotonic() < until, f"{todo} did not hit within {seconds} s; {self.hits}"
            if getattr(self, todo[0])():
                self.hits[todo.pop(0)] += 1
                time.sleep(self.random.uniform(0.5, 2.5))
            time.sleep(0.2)

    def _one(self, *states: str) -> str:
        """Some job of the sweep in one of these states; every other time one in the middle of its work, if there is."""
        queue, units = self.place.cluster.squeue(), self.place.units(self.sweep)
        found = {self.place.job(u): u for u in units if queue.get(self.place.job(u)) in states}
        busy = [job for job, unit in found.items() if "began" in (self.place.attempts(unit) or [{}])[-1]]
        if not found:
            return ""
        job = self.random.choice(sorted(busy if busy and self.random.random() < 0.5 else found))
        self.saved += found[job]["kind"] == "train" and checkpoint.begun(self.place.training(found[job]))
        return job

    def requeue(self) -> bool:
        job, show = self._one("RUNNING"), self.place.cluster.show
        if not job:
            return False
        before = int(show(job)["Restarts"])
        self.place.cluster.run("scontrol", "requeue", job, check=False)  # it may have been over just then
        return within(15, lambda: int(show(job)["Restarts"]) > before)

    def cancel(self) -> bool:
        job = self._one("RUNNING", "PENDING")
        if not job:
            return False
        self.place.cluster.run("scancel", job, check=False)
        return within(15, lambda: self.place.cluster.squeue().get(job) == "CANCELLED")

    def kill(self) -> bool:
        job = self._one("RUNNING")
        processes = processes_of(job) if job else []
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # its parent ended first, and it with it
                process.kill()
        return bool(processes)

    def node(self) -> bool:
        name = self.random.choice(["n1", "n2"])
        units = self.place.units(self.sweep)
        queue = self.place.cluster.run("squeue", "--noheader", "--array", f"--nodelist={name}", "--format=%i")
        if not {self.place.job(unit) for unit in units} & set(queue.split()):
            return False
        self.place.cluster.stop_node(name)
        time.sleep(self.random.uniform(1, 4))
        self.place.cluster.start_node(name)
        return True


@pytest.mark.chaos
def test_through_chaos_every_cell_ends_as_if_undisturbed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["seeds=0-23", "steps=600", "runtime.checkpoint_seconds=0.2"]
    alone = place.folder / "alone"
    undisturbed = place.one_by_one(alone, *words)
    watch, chaos = Watch(place, "mine"), Chaos(place, "mine", seed=4)
    launcher = place.launch("mine.py", "executor=slurm", *words)
    monkeypatch.chdir(place.folder)
    with place.cluster.active():
        watch.start()
        chaos.do({"requeue": 5, "cancel": 6, "kill": 6, "node": 2}, launcher, 300)
        before = len(rows(place.runs))
        shown = int(re.findall(r"(\d+) of 24 cells done", place.status("mine"))[0])
        assert before <= shown <= len(rows(place.runs))
        said = launcher.end()
        watch.stop()
    for command in undisturbed:
        command.end()

    assert chaos.hits == {"requeue": 5, "cancel": 6, "kill": 6, "node": 2} and chaos.saved > 0
    same(place.runs, alone, 24)
    assert len(rows(place.runs)) == 24
    units = place.units("mine")
    assert len(units) == 48 and all(place.there(unit) for unit in units)
    for unit in units:
        assert [line["outcome"] for line in place.attempts(unit) if "outcome" in line].count("done") <= 1
    jobs = Counter((unit["key"], line["job"]) for unit in units for line in place.attempts(unit) if "job" in line)
    assert max(jobs.values()) > 1, "no job was seen to begin twice"
    assert len(jobs) > len(units), "no unit was seen to have a second job"
    assert any(begun_at(place.training(unit)) > 0 for unit in units), "none went on from a checkpoint"

    assert len(watch.looks) > 30 and len(watch.rows) == 48
    assert {now.name for look in watch.looks for now in look[2].values()} >= {"pending", "running", "lost", "done"}
    assert not watch.untruths(), "\n".join(watch.untruths())
    assert len(re.findall("^done  ", said, re.M)) == 48 and "48 jobs done, 0 failed" in said, said


@pytest.mark.chaos
def test_a_preempted_training_saves_itself_and_goes_on_from_that_step(place: Place) -> None:
    words = ["seeds=[0,1]", "steps=6000", "runtime.checkpoint_seconds=1e6"]  # nothing else saves
    alone = place.folder / "alone"
    # Of so short a job submitit takes every USR2 for the time limit's; else it says "preempted" and does the same.
    launcher = place.launch("mine.py", "executor=slurm", "cluster.job.hours=0.1", *words)
    wait, cluster = place.cluster.wait, place.cluster
    units = wait(lambda: [unit for unit in place.units("mine") if unit["kind"] == "train"])
    one, two = units

    def steps(unit: dict[str, Any]) -> int:
        file = place.training(unit) / "progress"
        return json.loads(file.read_text())["step"] if file.exists() else 0

    def outcomes(unit: dict[str, Any]) -> list[str]:
        return [line["outcome"] for line in place.attempts(unit) if "outcome" in line]

    wait(lambda: steps(one) and steps(two))
    cluster.run("scancel", "--signal=USR2", place.job(one))
    wait(lambda: outcomes(one) == ["preempted"])
    assert outcomes(two) == [] and not checkpoint.begun(place.training(two))
    hog = cluster.sbatch("sleep 1", "--partition=high", "--nodes=2", "--exclusive")
    wait(lambda: outcomes(two) == ["preempted"])
    saved = {unit["key"]: checkpoint.read(place.training(unit) / checkpoint.NAME)[1] for unit in units}
    assert all(0 < step < 6000 for step in saved.values())
    wait(lambda: cluster.squeue(hog).get(hog) == "COMPLETED")

    undisturbed = place.one_by_one(alone, *words)
    for command in (launcher, *undisturbed):
        command.end()
    same(place.runs, alone, 2)
    for unit in units:
        first, stopped, second, over = place.attempts(unit)
        assert stopped["message"] == "SIGUSR2" and over["outcome"] == "done"
        assert first["job"] == second["job"] == place.job(unit), "the same job, requeued"
        assert begun_at(place.training(unit)) == saved[unit["key"]]


@pytest.fixture
def bare(cluster_without_accounting: Cluster, tmp_path: Path) -> Iterator[Place]:
    """A place where nobody remembers how a job ended."""
    made = Place(tmp_path, cluster_without_accounting)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.chaos
def test_without_accounting_or_launcher_what_was_lost_is_told_and_the_same_command_goes_on(bare: Place) -> None:
    words = ["mine.py", "executor=slurm", "seeds=[0,1,2]", "steps=5000"]
    (bare.folder / "cluster.toml").write_text('[job]\nhours = 1\nextra = {nodelist = "n1"}\n')  # there is but one node
    wait, queue = bare.cluster.wait, bare.cluster.squeue
    assert "submitted" in bare.launch(*words, "--no-wait").end()
    units = bare.units("mine")
    jobs = {unit["key"]: bare.job(unit) for unit in units}
    assert len(set(jobs.values())) == 6 and set(jobs.values()) <= queue().keys()
    hit, *others = [unit for unit in units if unit["kind"] == "train"]
    wait(lambda: all(bare.attempts(unit) for unit in (hit, *others)))
    said = bare.status("mine")
    assert "0 of 3 cells done" in said and len(re.findall(r"^\d+ +running +train ", said, re.M)) == 3, said

    victims = processes_of(jobs[hit["key"]])
    assert victims and not bare.there(hit)
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    wait(lambda: queue().get(jobs[hit["key"]]) == "FAILED")
    time.sleep(3.5)  # for so long SLURM's last answer is good
    said = bare.status("mine")
    assert re.findall(r"^\d+ +lost +train .*seed 0", said, re.M), said
    assert not any(unit["kind"] == "evaluate" and bare.there(unit) for unit in units)

    said = bare.launch(*words).end()
    assert "6 jobs done, 0 failed" in said and len(rows(bare.runs)) == 3
    assert "3 of 3 cells done" in bare.status("mine")
    first, second, over = bare.attempts(hit)
    assert first["job"] == jobs[hit["key"]] != second["job"] and over["outcome"] == "done"
    for unit in units:
        if unit["training"] != hit["training"]:
            began, over = bare.attempts(unit)
            assert began["job"] == jobs[unit["key"]] == bare.job(unit) and over["outcome"] == "done"


def test_a_job_that_dies_before_it_begins_is_tried_so_often_and_no_more(place: Place) -> None:
    (place.folder / "cluster.toml").write_text('retries = 1\n[job]\nhours = 1\nsetup = ["exit 1"]\n')
    launcher = place.launch("mine.py", "executor=slurm", "seeds=[0]", "steps=5")
    with pytest.raises(AssertionError, match="lost: its job ended without a word 2 times"):
        launcher.end(seconds=120)
    trained, evaluated = place.units("mine")
    assert not place.attempts(trained) and not place.there(trained) and not place.there(evaluated)
    assert len(list((place.runs / "jobs" / "log").glob("*_submission.sh"))) == 4
    said = place.status("mine")
    assert re.findall(r"^0 +failed +train", said, re.M) and re.findall(r"^1 +blocked +evaluate", said, re.M), said


def test_while_the_controller_is_away_the_launcher_says_so_and_waits(place: Place) -> None:
    launcher = place.launch("mine.py", "executor=slurm", "seeds=[0]", "steps=500")
    place.cluster.wait(lambda: any(place.attempts(unit) for unit in place.units("mine")))
    os.kill(int((place.cluster.folder / "slurmctld.pid").read_text()), signal.SIGKILL)
    try:
        assert within(90, lambda: "SLURM does not answer, waiting: squeue" in launcher.output.read_text())
        assert launcher.runs
    finally:
        place.cluster.start()
    assert "2 jobs done, 0 failed" in launcher.end()
