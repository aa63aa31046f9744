"""Sweep status from the manifest, the run store and one queue query.

The manifest, runs/sweeps/NAME/sweep.json, holds the words of the launch, the cells (labels and both identities) and the
tasks. Any process with access to the run store can read it, even if the launcher has ended. Imports no torch.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lf.core.cli import store_of
from lf.core.errors import UserError, nearest
from lf.storage.atomic import replace
from lf.storage.json_files import load_json, read_json
from lf.storage.lease import held
from sweeps.jobs import profile
from sweeps.jobs.records import attempts, failure_of, here, job_of, lives
from sweeps.jobs.slurm import ends, slurm_states

if TYPE_CHECKING:
    from sweeps.jobs.task import Task

LAG = 10.0  # seconds until a new job is in the queue, and until other machines see a new result
FINAL = ("done", "failed", "cancelled", "on_hold", "blocked")


@dataclass(frozen=True)
class State:
    """The state of a task.

    Attributes:
        name: ``done``, ``running``, ``pending``, ``new`` (never submitted), ``vanished`` (its job ended without
            a record), ``failed``, ``cancelled``, ``on_hold`` (too many tasks failed with the same traceback) or
            ``blocked`` (the training that it waits for failed).
        note: the last error, or the job that it waits for.
        stage: of a running task, what it does at the moment if that takes long: ``compiles the network``.
        step, loss, left: of a running training: finished steps, the last mean loss, remaining seconds.
    """

    name: str
    note: str = ""
    stage: str = ""
    step: int = 0
    loss: float | None = None
    left: float | None = None


def entry(task: "Task", training: str, rows: Sequence[str], after: str) -> dict[str, Any]:
    """A task's entry in the manifest: all that is needed to find its state."""
    steps = task.training.steps
    return {
        "key": task.key, "kind": task.kind, "title": task.title, "training": training,
        "rows": list(rows), "after": after, "steps": steps,
    }  # fmt: skip


def write(sweep: Path, manifest: Mapping[str, Any]) -> None:
    """Writes a sweep's manifest."""
    replace(sweep / "sweep.json", json.dumps(manifest, indent=1))


def read(name: str, runs: Path) -> tuple[Path, dict[str, Any]]:
    """A sweep's folder and manifest. Raises `UserError` if it was not launched in this run store."""
    sweep = runs / "sweeps" / name
    if not (sweep / "sweep.json").exists():
        known = [file.parent.name for file in (runs / "sweeps").glob("*/sweep.json")]
        raise UserError(f"{name}: not launched in {runs}; {nearest(name, known) if known else 'nothing was'}")
    try:
        return sweep, load_json(sweep / "sweep.json", "units")
    except UserError as error:
        raise UserError(f"{error}; launch the sweep again, which repeats nothing that is done") from None


def jobs_of(sweep: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """States of the sweep's jobs on SLURM, in one query; empty for a sweep on this machine."""
    return slurm_states(sweep.parents[1]) if manifest["executor"] == "slurm" else {}


def states(sweep: Path, tasks: Sequence[Mapping[str, Any]], jobs: Mapping[str, str]) -> dict[str, State]:
    """Task → its state."""
    runs, found = sweep.parents[1], dict[str, State]()
    why_held = (read_json(sweep / "held.json", "message") or {"message": ""})["message"]
    for task in tasks:  # each comes after the one that it waits for
        found[task["key"]] = _state(runs, task, jobs, found.get(task["after"]), why_held)
    silent = [key for key, state in found.items() if state.name == "vanished"]
    known = ends([job_of(runs / "jobs" / key)["job"] for key in silent])
    for key in silent:
        end = known.get(job_of(runs / "jobs" / key)["job"])
        if end:
            found[key] = State("vanished", f"{end['state'].lower()} on {end['node']}".removesuffix(" on "))
    return found


def has_ended(row: Path) -> bool:
    """Whether a task has written the file ``row``, whole: a row, or the trials of a search."""
    try:
        changed = row.stat().st_mtime_ns
        return row.suffix != ".json" or _whole(row, changed)
    except OSError:
        return False


@cache
def _whole(row: Path, _: int) -> bool:
    return read_json(row, "id") is not None


def _state(runs: Path, task: Mapping[str, Any], jobs: Mapping[str, str], before: State | None, why_held: str) -> State:
    if all(has_ended(runs / row) for row in task["rows"]):
        return State("done")
    folder = runs / "jobs" / task["key"]
    failure = failure_of(folder)
    if failure:
        name = "cancelled" if failure["kind"] == "cancelled" else "failed"
        return State(name, f"{failure['kind']}: {failure['message']}")
    if before and before.name in ("failed", "cancelled", "blocked"):
        return State("blocked", f"{_awaited(task)} stopped")
    job = job_of(folder)
    job_state = jobs.get(job.get("job", ""), "")
    if not job_state and job.get("on") == "local" and _elsewhere(runs, task, job):
        job_state = "RUNNING"  # started by another launcher
    if job_state == "RUNNING":
        return _running(runs, task, before)
    if job_state == "PENDING":
        return State("pending", f"job {job['job']}")
    if why_held:
        return State("on_hold", why_held)
    if not job or job["job"].startswith("waiting"):  # it waited in a launcher that has ended
        return State("new")
    if time.time() - job["at"] < LAG and not job_state:
        return State("pending", f"job {job['job']}")
    return State("vanished", job_state.lower())


def _awaited(task: Mapping[str, Any]) -> str:
    return "its training" if task["kind"] == "evaluate" else "the training that it begins from"


def _elsewhere(runs: Path, task: Mapping[str, Any], job: Mapping[str, Any]) -> bool:
    """Whether a job that a launcher started on its own machine (this one or another) still runs."""
    if here(job):
        return lives(job)
    return any(held((runs / row).with_name("lock")) for row in task["rows"])


def _running(runs: Path, task: Mapping[str, Any], before: State | None) -> State:
    if before and before.name != "done":
        return State("pending", _awaited(task))
    stage = (read_json(runs / "jobs" / task["key"] / "stage", "what") or {"what": ""})["what"]
    if task["kind"] == "evaluate":
        done = sum(has_ended(runs / row) for row in task["rows"])
        return State("running", f"{done}/{len(task['rows'])} evaluated", stage)
    said = read_json(runs / "training" / task["training"] / "progress", "step", "loss", "seconds_per_step")
    if said is None:
        return State("running", stage=stage)
    left = said["seconds_per_step"] * (task["steps"] - said["step"])
    return State("running", step=said["step"], loss=said["loss"], left=left)


def times_lost(folder: Path, since: float) -> int:
    """How often a task's job vanished since then, before or after it began."""
    noted, submitted = attempts(folder), job_of(folder).get("submitted", [])
    began = sum(line.get("began", 0) > since for line in noted)
    return max(began - sum(line.get("ended", 0) > since for line in noted), sum(at > since for at in submitted))


def alive(state: State) -> bool:
    """Whether a job of the task waits or runs."""
    return state.name in ("running", "pending")


def chosen(name: str, words: Sequence[str]) -> tuple[Path, dict[str, Any], list[dict[str, Any]]]:
    """A sweep's folder, its manifest, and the tasks given by a command's words ``[TASK …] [runs=FOLDER]``.

    A task is given by its number in `sweeps.status`, or by a part of its title or key. Without TASK it is all tasks.

    Raises:
        UserError: an unknown key, sweep or task.
    """
    given = [store_of(word) for word in words if "=" in word]
    store = (given[-1] if given else Path(profile.load({})[0].runs or "runs")).absolute()
    sweep, manifest = read(name, store)
    named = [word for word in words if "=" not in word]
    return sweep, manifest, [task for word in named for task in _pick(manifest["units"], word)] or manifest["units"]


def _pick(tasks: list[dict[str, Any]], which: str) -> list[dict[str, Any]]:
    if which.isdigit() and int(which) < len(tasks):
        return [tasks[int(which)]]
    found = [task for task in tasks if which in f"{task['kind']} {task['title']}" or which in task["key"]]
    if not found:
        raise UserError(f"{which}: no such task; give a task's number in sweeps.status, or a part of its title")
    return found
