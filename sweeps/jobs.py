"""What is known of jobs: what they noted, why they stopped, what SLURM says. Imports nothing that takes long.

runs/jobs/<unit>/job.json        where it was submitted last
runs/jobs/<unit>/attempts.jsonl  one line when it begins, one when it ends
runs/jobs/<unit>/failure.json    why it stopped for good; `sweeps.retry` removes it
"""

import getpass
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from socket import gethostname
from typing import Any

import psutil

from lf.errors import UserError
from lf.files import replace

FRESH = 3.0  # seconds for which SLURM's answer is good: any number of commands ask it once in that time
# SLURM's states in two words, PENDING and RUNNING; the others are ends, and say which
WAITS = ("CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
RUNS = ("COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING", "STOPPED", "SUSPENDED")
SAME_AS = dict.fromkeys(WAITS, "PENDING") | dict.fromkeys(RUNS, "RUNNING")


class Silent(UserError):
    """SLURM's controller does not answer; it may be starting again."""


@dataclass(frozen=True)
class Failure:
    """What is known of a failure.

    Attributes:
        kind: a key of `POLICY`.
        message: one line.
        signature: equal for equal mistakes: the error's type and the places in the code it came through.
        trace: the whole traceback.
    """

    kind: str
    message: str
    signature: str = ""
    trace: str = ""


def job_of(folder: Path) -> dict[str, Any]:
    """What a unit's ``job.json`` says; empty if it was never submitted."""
    file = folder / "job.json"
    return json.loads(file.read_text()) if file.exists() else {}


def failure_of(folder: Path) -> dict[str, Any] | None:
    """Why a unit stopped for good, or None."""
    file = folder / "failure.json"
    return json.loads(file.read_text()) if file.exists() else None


def attempts(folder: Path) -> list[dict[str, Any]]:
    """What the unit's jobs noted, in order."""
    file, noted = folder / "attempts.jsonl", []
    for line in file.read_text().splitlines() if file.exists() else ():
        with suppress(ValueError):  # a line that a dying machine wrote in part
            noted.append(json.loads(line))
    return noted


def attempted(folder: Path, **what: Any) -> None:
    """Adds a line to what the unit's jobs noted."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "attempts.jsonl").open("a+") as file:
        file.seek(0)
        torn = not f"\n{file.read()}".endswith("\n")
        file.write("\n" * torn + json.dumps(what) + "\n")
        file.flush()
        os.fsync(file.fileno())


def fail(folder: Path, kind: str, message: str) -> None:
    """Stops a unit for good, from outside."""
    replace(folder / "failure.json", json.dumps(asdict(Failure(kind, message)), indent=1))


def slurm_states(runs: Path) -> dict[str, str]:
    """State of all of the user's jobs: SLURM's answer, or its last if that is fresh."""
    file = runs / "jobs" / "queue.json"
    if not file.exists() or time.time() - file.stat().st_mtime > FRESH:
        replace(file, json.dumps(_squeue()))
    return json.loads(file.read_text())


def scancel(jobs: Iterable[str]) -> None:
    """Ends SLURM jobs."""
    jobs = list(jobs)
    for start in range(0, len(jobs), 500):
        subprocess.run(["scancel", *jobs[start : start + 500]], capture_output=True, check=False)


def lives(job: Mapping[str, Any]) -> bool:
    """Whether a job of this machine still runs. Its process's number may be another's by now, which began later."""
    if job.get("host") != gethostname():
        return False
    try:
        return psutil.Process(int(job["job"])).create_time() < job["at"] + 5
    except (psutil.Error, KeyError, ValueError):
        return False


def kill(jobs: Iterable[str]) -> None:
    """Ends jobs of this machine: the shells that submitit starts them in, and all below these."""
    for job in jobs:
        with suppress(psutil.Error):
            shell = psutil.Process(int(job))
            for process in [shell, *shell.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


def _squeue() -> dict[str, str]:
    """All of the user's jobs that SLURM remembers, in one question."""
    asked = ["squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}", "--format=%i|%T"]
    for _ in range(5):  # a controller that is starting again
        done = subprocess.run(asked, capture_output=True, text=True)
        if done.returncode == 0:
            pairs = (line.strip().split("|") for line in done.stdout.splitlines() if "|" in line)
            return {job: SAME_AS.get(state, state) for job, state in pairs}
        time.sleep(2)
    raise Silent(f"squeue: {done.stderr.strip().splitlines()[-1] if done.stderr else 'no answer'}")


def up() -> set[str]:
    """Nodes that take jobs."""
    done = subprocess.run(["sinfo", "--noheader", "--Node", "--format=%N %T"], capture_output=True, text=True)
    nodes = (line.split() for line in done.stdout.splitlines())
    return {name for name, now in nodes if now in ("idle", "mixed", "allocated", "completing")}


def ends(jobs: Sequence[str]) -> dict[str, dict[str, str]]:
    """How jobs ended, from the accounting where there is one: job → state and node."""
    if not jobs or shutil.which("sacct") is None:
        return {}
    asked = ["sacct", "-n", "-X", "-P", "--format=JobID,State,NodeList", "-j", ",".join(jobs)]
    done = subprocess.run(asked, capture_output=True, text=True)
    rows = (line.split("|") for line in done.stdout.splitlines() if line.count("|") == 2)
    return {job: {"state": state.split()[0], "node": node.removeprefix("None assigned")} for job, state, node in rows}
