"""Searches whose workers are killed while they run trials, and how often each training was begun."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import psutil
from flufl.lock import Lock, NotLockedError
from optuna.storages.journal import JournalFileBackend
from toy import PATIENCE


def holder(lease: Path) -> psutil.Process | None:
    """The process that holds a lease."""
    try:
        _, pid, _ = Lock(str(lease)).details
        return psutil.Process(pid)
    except (OSError, psutil.Error, ValueError, NotLockedError):  # none does, or not any more
        return None


def kill_workers(command: subprocess.Popen[str], store: Path, count: int) -> list[int]:
    """Kills ``count`` workers of a search amid a trial, and waits for its end, which must be good.

    Returns the numbers of their trials, which are different ones.
    """
    killed: dict[int, int] = {}  # process → its trial
    try:
        while len(killed) < count and command.poll() is None:
            for lease in _leases(store):
                if len(killed) < count and int(lease.name) not in killed.values():
                    process = holder(lease)
                    if process and process.pid not in killed and _killed(process, lease):
                        killed[process.pid] = int(lease.name)
            time.sleep(0.01)
        out, err = command.communicate(timeout=PATIENCE)
    finally:
        if command.poll() is None:
            os.killpg(command.pid, signal.SIGKILL)
    assert command.returncode == 0, out + err
    assert len(killed) == count, out + err
    return list(killed.values())


def _leases(store: Path) -> Iterator[Path]:
    """Those of trials."""
    return (lease for lease in store.glob("sweeps/*/leases/[0-9]*") if lease.name.isdigit())


def _killed(process: psutil.Process, lease: Path) -> bool:
    """Kills a worker if it still runs the trial of its lease."""
    folder = lease.parents[1]
    try:
        process.send_signal(signal.SIGSTOP)  # it cannot finish now
    except psutil.NoSuchProcess:  # it just has
        return False
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    trial = optuna.load_study(study_name=folder.name, storage=storage).trials[int(lease.name)]
    runs = trial.state.name == "RUNNING" and "by" in trial.user_attrs
    process.send_signal(signal.SIGKILL if runs else signal.SIGCONT)
    return runs


def legs(store: Path) -> dict[str, int]:
    """How often every training of a store was begun or resumed: each time it opens a file for its curves."""
    return {folder.name: len(list(folder.glob("events.*"))) for folder in (store / "training").iterdir()}
