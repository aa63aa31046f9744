"""Queries to SLURM about jobs and nodes, by its own commands. Imports no torch."""

import getpass
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from lf.core.errors import UserError
from lf.storage.atomic import replace
from lf.storage.json_files import read_json

FRESH = 3.0  # seconds for which SLURM's answer is cached, for all commands together
# SLURM's states that mean PENDING or RUNNING; all others are final states
WAITS = ("CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
RUNS = ("COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING", "STOPPED", "SUSPENDED")
SAME_AS = dict.fromkeys(WAITS, "PENDING") | dict.fromkeys(RUNS, "RUNNING")
SILENCE = re.compile(r"unable to contact|timed out|connection refused|communication|slow startup", re.I)
"""Error messages of sbatch while the controller is unavailable."""


class SlurmSilent(UserError):
    """SLURM's controller does not answer; it may be restarting."""


def slurm_states(runs: Path) -> dict[str, str]:
    """States of all of the user's jobs, from SLURM or, for `FRESH` seconds, from a cache in the run store."""
    file = runs / "jobs" / "queue.json"
    fresh = file.exists() and time.time() - file.stat().st_mtime <= FRESH
    found = read_json(file) if fresh else None
    if found is None:
        found = _squeue()
        replace(file, json.dumps(found))
    return found


def scancel(jobs: Iterable[str]) -> None:
    """Cancels SLURM jobs."""
    jobs = list(jobs)
    for start in range(0, len(jobs), 500):
        subprocess.run(["scancel", *jobs[start : start + 500]], capture_output=True, check=False)


def _squeue() -> dict[str, str]:
    """All of the user's jobs that SLURM lists, in one query."""
    asked = ["squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}", "--format=%i|%T"]
    for _ in range(5):  # the controller may be restarting
        done = subprocess.run(asked, capture_output=True, text=True)
        if done.returncode == 0:
            pairs = (line.strip().split("|") for line in done.stdout.splitlines() if "|" in line)
            return {job: SAME_AS.get(state, state) for job, state in pairs}
        time.sleep(2)
    raise SlurmSilent(f"squeue: {done.stderr.strip().splitlines()[-1] if done.stderr else 'no answer'}")


def available_nodes() -> set[str]:
    """Nodes that accept jobs."""
    done = subprocess.run(["sinfo", "--noheader", "--Node", "--format=%N %T"], capture_output=True, text=True)
    nodes = (line.split() for line in done.stdout.splitlines())
    return {name for name, now in nodes if now in ("idle", "mixed", "allocated", "completing")}


def ends(jobs: Sequence[str]) -> dict[str, dict[str, str]]:
    """How jobs ended, from SLURM's accounting, if it has one: job → state and node."""
    if not jobs or shutil.which("sacct") is None:
        return {}
    asked = ["sacct", "-n", "-X", "-P", "--format=JobID,State,NodeList", "-j", ",".join(jobs)]
    done = subprocess.run(asked, capture_output=True, text=True)
    rows = (line.split("|") for line in done.stdout.splitlines() if line.count("|") == 2)
    return {job: {"state": state.split()[0], "node": node.removeprefix("None assigned")} for job, state, node in rows}


@cache
def slurm_unavailable_reason() -> str:
    """Why jobs cannot be submitted to SLURM from here; empty if they can."""
    if shutil.which("sbatch") is None:
        return "no sbatch on this machine"
    done = subprocess.run(["scontrol", "ping"], capture_output=True, text=True)
    return "" if "is UP" in done.stdout else "its controller does not answer (scontrol ping)"


@cache
def max_array() -> int:
    """The cluster's limit of jobs in one array."""
    said = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", said)
    return max(1, int(found[1]) - 1) if found else 1000
