"""Harm by chance to the jobs of a sweep, and a watch that checks what is told of it meanwhile."""

import random
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import psutil
from disturbed import Command, Place, processes_of, within

from lf.storage import checkpoint
from sweeps.jobs import state
from sweeps.jobs.state import State


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
                    "vanished": bool(said - {"RUNNING", "PENDING", "CONFIGURING"}),
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
