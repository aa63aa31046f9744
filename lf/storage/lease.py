"""Leases on a shared file system: one process at a time holds a file, and the lease of a dead process expires.

A thread renews the lease while its process lives; other processes may break an expired one. flufl.lock implements it by
hard links and modification times, which also work on network file systems.
"""

import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from filelock import FileLock
from flufl.lock import Lock, LockState, NotLockedError, TimeOutError

from lf.core import preemption

LEASE = timedelta(seconds=float(os.environ.get("LF_LEASE", 60)))
"""Time without a renewal after which a process counts as dead (plus `SLOP` for clock skew); ``LF_LEASE``, in s."""
SLOP = timedelta(seconds=10)


@cache
def machine() -> str:
    """A name for the processes that can see each other: host name, boot and PID namespace.

    Host names alone are not unique: many machines are called localhost. Without ``/proc`` it is the host name.
    """
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text()[:8])
        parts.append(re.sub(r"\D", "", os.readlink("/proc/self/ns/pid")))
    return ".".join(parts)


class _Lock(Lock):
    """A lock whose holder counts as dead only if a process of the same `machine` finds no process of its number."""

    def __init__(self, file: Path):
        super().__init__(str(file), lifetime=LEASE)
        self._hostname = machine()  # instead of the fully qualified host name
        self._set_claimfile()


logging.getLogger("flufl.lock").setLevel(logging.CRITICAL)  # it logs waiting as an error


@contextmanager
def lease(file: Path) -> Iterator[None]:
    """Holds the lease of ``file``; waits while another process that is alive holds it.

    Raises:
        lf.core.preemption.Stopped: a stop was requested while it waited.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock, over, began = _Lock(file), threading.Event(), time.monotonic()

    def renew() -> None:
        while not over.wait(LEASE.total_seconds() / 4):
            try:
                lock.refresh()
            except (NotLockedError, OSError):
                if not over.is_set():
                    preemption.ask(preemption.LOST)
                return

    while True:
        _remove_dead(lock, file)
        try:
            lock.lock(timeout=timedelta(seconds=2))
            break
        except TimeOutError:
            if preemption.asked():
                raise preemption.Stopped(preemption.asked()) from None
            if began and time.monotonic() - began > 3:
                sys.stderr.write(f"waiting for {file.parent}, which {_holder(lock)} is working on\n")
                began = 0.0
    renewer = threading.Thread(target=renew, daemon=True)
    renewer.start()
    try:
        yield
    finally:
        over.set()
        renewer.join()
        lock.unlock(unconditionally=True)


def held(file: Path) -> bool:
    """Whether a process that may be alive holds the lease of ``file``."""
    lock = _Lock(file)
    try:
        return lock.state not in (LockState.unlocked, LockState.stale) and lock.expiration + SLOP > datetime.now()
    except OSError:  # released just now
        return False


def _holder(lock: Lock) -> str:
    """Who holds a lock."""
    try:
        host, pid, _ = lock.details
    except (NotLockedError, OSError, ValueError):  # released just now
        return "another process"
    return f"process {pid} on {host.partition('.')[0]}"


def _remove_dead(lock: Lock, file: Path) -> None:
    """Removes the lease of a dead process of this machine, so that nobody has to wait until it expires.

    Only processes on the same machine can see that it is dead; they check one at a time. Processes on other machines
    break expired leases, so an expired one is left to them.
    """
    try:
        if lock.state is LockState.stale:
            with FileLock(f"{file}.dead"):
                if lock.state is LockState.stale and lock.expiration > datetime.now():
                    file.unlink()
    except OSError:  # released just now
        return
