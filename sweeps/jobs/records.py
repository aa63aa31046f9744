"""Records of a task's jobs in the run store: where they ran, each attempt, why it failed. Imports no torch.

runs/jobs/<task>/job.json        its last job
runs/jobs/<task>/attempts.jsonl  one line when an attempt begins, one when it ends
runs/jobs/<task>/stage           what it does at the moment, if that takes long
runs/jobs/<task>/failure.json    why it stopped; `sweeps.retry` removes it
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from socket import gethostname
from typing import Any

import psutil

from lf.storage.atomic import replace
from lf.storage.json_files import read_json
from lf.storage.lease import machine


@dataclass(frozen=True)
class Failure:
    """A failure.

    Attributes:
        kind: a key of `POLICY`.
        message: one line.
        signature: hash of the error's type and the innermost places of its traceback; equal for equal mistakes.
        trace: the whole traceback.
    """

    kind: str
    message: str
    signature: str = ""
    trace: str = ""


def job_of(folder: Path) -> dict[str, Any]:
    """The content of a task's ``job.json``; empty if it was never submitted."""
    return read_json(folder / "job.json", "job", "at") or {}


def failure_of(folder: Path) -> dict[str, Any] | None:
    """The content of a task's ``failure.json``, or None."""
    return read_json(folder / "failure.json", "kind", "message", "signature", "trace")


def attempts(folder: Path) -> list[dict[str, Any]]:
    """The lines of a task's ``attempts.jsonl``, in order."""
    file, noted = folder / "attempts.jsonl", []
    for line in file.read_bytes().splitlines() if file.exists() else ():
        with suppress(ValueError, RecursionError):  # an incomplete line, after a crash
            noted.append(json.loads(line))
    return [line for line in noted if isinstance(line, dict)]


def record_attempt(folder: Path, **what: Any) -> None:
    """Adds a line to a task's ``attempts.jsonl``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "attempts.jsonl").open("ab+") as file:
        file.seek(0)
        torn = not (b"\n" + file.read()).endswith(b"\n")
        file.write(b"\n" * torn + json.dumps(what).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def record_stage(folder: Path, what: str) -> None:
    """Notes what a task does at the moment."""
    replace(folder / "stage", json.dumps({"what": what}))


def fail(folder: Path, kind: str, message: str) -> None:
    """Marks a task as failed, from outside its job."""
    replace(folder / "failure.json", json.dumps(asdict(Failure(kind, message)), indent=1))


def here(job: Mapping[str, Any]) -> bool:
    """Whether a job was started where its process number means what it means here. Old records name only the host."""
    return job.get("host") == gethostname() and job.get("machine", machine()) == machine()


def lives(job: Mapping[str, Any]) -> bool:
    """Whether a job of this machine still runs. A process with the same id that began later is another one."""
    if not here(job):
        return False
    try:
        return psutil.Process(int(job["job"])).create_time() < job["at"] + 5
    except (psutil.Error, KeyError, ValueError):
        return False


def kill(jobs: Iterable[str]) -> None:
    """Ends jobs of this machine: the shells in which submitit starts them, and all their child processes."""
    for job in jobs:
        with suppress(psutil.Error):
            shell = psutil.Process(int(job))
            for process in [shell, *shell.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
