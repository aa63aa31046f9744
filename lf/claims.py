"""Claims on a shared file system: one process at a time does a thing, and one that died is found out.

A claim is a lease: a thread renews it as long as the process lives, and others may break it once it has run out. It is
made of hard links and times of files, as network file systems need it, by flufl.lock.
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

from lf import stop

LEASE = timedelta(seconds=float(os.environ.get("LF_LEASE", 60)))
"""How long a process may be silent until it counts as dead (and 10 s for clocks that differ); ``LF_LEASE``, in s."""
SLOP = timedelta(seconds=10)

logging.getLogger("flufl.lock").setLevel(logging.CRITICAL)  # it calls waiting an error


@contextmanager
def claim(file: Path) -> Iterator[None]:
    """Holds ``file`` for this process; waits until another that holds it lets go or is dead."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock, over = Lock(str(file), lifetime=LEASE), threading.Event()

    def renew() -> None:
        while not over.wait(LEASE.total_seconds() / 4):
            try:
                lock.refresh()
            except (NotLockedError, OSError):
                if not over.is_set():
                    stop.ask(stop.LOST)
                return

    while True:
        _bury(lock, file)
        try:
            lock.lock(timeout=timedelta(seconds=2))
            break
        except TimeOutError:
            if stop.asked():
                raise stop.Stopped(stop.asked()) from None
    heart = threading.Thread(target=renew, daemon=True)
    heart.start()
    try:
        yield
    finally:
        over.set()
        heart.join()
        lock.unlock(unconditionally=True)


def held(file: Path) -> bool:
    """Whether some process that may be alive holds ``file``."""
    lock = Lock(str(file))
    try:
        return lock.state not in (LockState.unlocked, LockState.stale) and lock.expiration + SLOP > datetime.now()
    except OSError:  # let go of just now
        return False


def _bury(lock: Lock, file: Path) -> None:
    """Removes the claim of a process of this very machine that is dead; nobody need wait for its lease to run out.

    Only processes of this machine can tell, and they do so one at a time. Those of others break a claim that has run
    out, so one that is about to is left to them.
    """
    try:
        if lock.state is LockState.stale:
            with FileLock(f"{file}.dead"):
                if lock.state is LockState.stale and lock.expiration > datetime.now():
                    file.unlink()
    except OSError:  # let go of just now
        return
