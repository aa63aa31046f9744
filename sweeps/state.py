"""What has become of a sweep: told from its manifest, the run store and one question to the queue.

runs/sweeps/NAME/sweep.json: the words it was launched with, its cells (labels and both identities) and its units.
Any process that sees the run store can tell, whether the launcher lives or not.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any

from lf.claims import held
from lf.errors import UserError, nearest
from lf.files import replace
from sweeps.jobs import attempts, ends, failure_of, job_of, lives, slurm_states

if TYPE_CHECKING:
    from sweeps.work import Unit

LAG = 10.0  # seconds in which a job may be unknown to the queue, and a result not yet seen on another machine
FINAL = ("done", "failed", "cancelled", "held", "blocked")


@dataclass(frozen=True)
class State:
    """What a unit does now.

    Attributes:
        name: ``done``, ``running``, ``pending``, ``new`` (never submitted), ``lost`` (its job ended without a word),
            ``failed``, ``cancelled``, ``held`` (too many others failed alike) or ``blocked`` (its training failed).
        note: the last error, or the job that it waits for.
        step, loss, left: of a running training: steps done, the last mean loss, seconds to go.
    """

    name: str
    note: str = ""
    step: int = 0
    loss: float | None = None
    left: float | None = None


def entry(unit: "Unit", training: str, rows: Sequence[str], after: str) -> dict[str, Any]:
    """A unit as the manifest holds it: all that telling its state takes."""
    steps = unit.training.steps
    return {
        "key": unit.key, "kind": unit.kind, "title": unit.title, "training": training,
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
    return sweep, json.loads((sweep / "sweep.json").read_text())


def jobs_of(sweep: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """State of the sweep's jobs, asked of SLURM once; those of this machine `states` finds by themselves."""
    return slurm_states(sweep.parents[1]) if manifest["executor"] == "slurm" else {}


def states(sweep: Path, units: Sequence[Mapping[str, Any]], jobs: Mapping[str, str]) -> dict[str, State]:
    """Unit → its state."""
    runs, found = sweep.parents[1], dict[str, State]()
    file = sweep / "held.json"
    why_held = json.loads(file.read_text())["message"] if file.exists() else ""
    for unit in units:  # a training stands before what evaluates it
        found[unit["key"]] = _state(runs, unit, jobs, found.get(unit["after"]), why_held)
    silent = [key for key, state in found.items() if state.name == "lost"]
    known = ends([job_of(runs / "jobs" / key)["job"] for key in silent])
    for key in silent:
        end = known.get(job_of(runs / "jobs" / key)["job"])
        if end:
            found[key] = State("lost", f"{end['state'].lower()} on {end['node']}".removesuffix(" on "))
    return found


def _state(runs: Path, unit: Mapping[str, Any], jobs: Mapping[str, str], before: State | None, why_held: str) -> State:
    if all((runs / row).exists() for row in unit["rows"]):
        return State("done")
    folder = runs / "jobs" / unit["key"]
    failure = failure_of(folder)
    if failure:
        name = "cancelled" if failure["kind"] == "cancelled" else "failed"
        return State(name, f"{failure['kind']}: {failure['message']}")
    if before and before.name in ("failed", "cancelled", "blocked"):
        return State("blocked", "its training stopped")
    job = job_of(folder)
    told = jobs.get(job.get("job", ""), "")
    if not told and job.get("on") == "local" and _elsewhere(runs, unit, job):
        told = "RUNNING"  # another launcher's
    if told == "RUNNING":
        return _running(runs, unit, before)
    if told == "PENDING":
        return State("pending", f"job {job['job']}")
    if why_held:
        return State("held", why_held)
    if not job or job["job"].startswith("waiting"):  # in a launcher of this machine that is no more
        return State("new")
    if time.time() - job["at"] < LAG and not told:
        return State("pending", f"job {job['job']}")
    return State("lost", told.lower())


def _elsewhere(runs: Path, unit: Mapping[str, Any], job: Mapping[str, Any]) -> bool:
    """Whether a job that a launcher started on its own machine, this one or another, still runs."""
    if job.get("host") == gethostname():
        return lives(job)
    return any(held((runs / row).with_name("lock")) for row in unit["rows"])


def _running(runs: Path, unit: Mapping[str, Any], before: State | None) -> State:
    if before and before.name != "done":
        return State("pending", "its training")
    if unit["kind"] == "evaluate":
        done = sum((runs / row).exists() for row in unit["rows"])
        return State("running", f"{done}/{len(unit['rows'])} evaluated")
    file = runs / "training" / unit["training"] / "progress"
    if not file.exists():
        return State("running")
    said = json.loads(file.read_text())
    return State("running", "", said["step"], said["loss"], said["seconds_per_step"] * (unit["steps"] - said["step"]))


def died(folder: Path, since: float) -> int:
    """How often a unit whose job is lost was lost since then, whether its jobs had begun or not."""
    noted, submitted = attempts(folder), job_of(folder).get("submitted", [])
    began = sum(line.get("began", 0) > since for line in noted)
    return max(began - sum(line.get("ended", 0) > since for line in noted), sum(at > since for at in submitted))


def alive(state: State) -> bool:
    """Whether a job of the unit waits or runs."""
    return state.name in ("running", "pending")


__all__ = ["FINAL", "State", "alive", "died", "entry", "jobs_of", "read", "states", "write"]
