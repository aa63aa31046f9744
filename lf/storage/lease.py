"""Leases on a shared file system: one process at a time holds a file, and the lease of a dead process expires.

A thread renews the lease while its process lives; other processes may break an expired one. flufl.lock implements it by
hard links and modification times, which also work on network file systems.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from filelock import FileLock
from flufl.lock import Lock, LockState, NotLockedError, TimeOutError

from lf.core import preemption

LEASE = timedelta(seconds=float(os.environ.get("LF_LEASE", 60)))
"""Time without a renewal after which a process counts as dead (plus `SLOP` for clock skew); ``LF_LEASE``, in s."""
SLOP = timedelta(seconds=10)

logging.getLogger("flufl.lock").setLevel(logging.CRITICAL)  # it logs waiting as an error


@contextmanager
def lease(file: Path) -> Iterator[None]:
    """Holds the lease of ``file``; waits while another process that is alive holds it.

    Raises:
        lf.core.preemption.Stopped: a stop was requested while it waited.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock, over = Lock(str(file), lifetime=LEASE), threading.Event()

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
    lock = Lock(str(file))
    try:
        return lock.state not in (LockState.unlocked, LockState.stale) and lock.expiration + SLOP > datetime.now()
    except OSError:  # released just now
        return False


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
