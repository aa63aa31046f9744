"""Leases on a shared file system: one process at a time holds a file, and the lease of a dead process expires.

A thread renews the lease while its process lives; other processes may break an expired one. flufl.lock implements it by
hard links and modification times, which also work on network file systems.
"""

import hashlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from socket import gethostname

from filelock import FileLock
from flufl.lock import SEP, Lock, NotLockedError, TimeOutError

from lf.core import preemption

LEASE = timedelta(seconds=float(os.environ.get("LF_LEASE", 60)))
"""Time without a renewal after which a process counts as dead (plus `SLOP` for clock skew); ``LF_LEASE``, in s."""
SLOP = timedelta(seconds=10)
PATIENCE = 5.0  # seconds of waiting after which a process says for whom it waits


logging.getLogger("flufl.lock").setLevel(logging.CRITICAL)  # it logs waiting as an error


@cache
def machine() -> str:
    """Where process numbers mean what they mean here: a hash of this boot and PID namespace; empty if unknown.

    Host names are not enough: many machines are ``localhost``, and containers have process numbers of their own.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return hashlib.sha256(f"{boot} {os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:12]
    except OSError:  # not Linux
        return ""


class _Lock(Lock):
    """A lock whose claim names host and machine, so that only processes that can see its holder judge it dead."""

    @property
    def hostname(self) -> str:
        return f"{gethostname()[:64]}@{machine()}"

    @property
    def holder(self) -> tuple[str, int] | None:
        """Host and process number of the holder; None if the file is damaged. Raises `OSError` if there is none."""
        try:
            _, host, pid, _ = Path(self.lockfile).read_text().strip().rsplit(SEP, 3)
            return host, int(pid)
        except ValueError:
            return None

    @property
    def dead(self) -> bool:
        """Whether the holder ran on this machine, and does not any more."""
        holder = self.holder
        if holder is None or holder[0] != self.hostname or not machine():
            return False
        try:
            os.kill(holder[1], 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:  # another user's
            pass
        return False

    @property
    def expired(self) -> bool:
        return self.expiration + SLOP <= datetime.now()


@contextmanager
def lease(file: Path) -> Iterator[None]:
    """Holds the lease of ``file``; waits while another process that may be alive holds it, and says so once.

    Raises:
        lf.core.preemption.Stopped: a stop was requested while it waited.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock, over = _Lock(str(file), lifetime=LEASE), threading.Event()

    def renew() -> None:
        while not over.wait(LEASE.total_seconds() / 4):
            try:
                lock.refresh()
            except (NotLockedError, OSError):
                if not over.is_set():
                    preemption.ask(preemption.LOST)
                return

    began, said = time.monotonic(), False
    while True:
        _remove_dead(lock, file)
        try:
            lock.lock(timeout=timedelta(seconds=2))
            break
        except TimeOutError:
            if preemption.asked():
                raise preemption.Stopped(preemption.asked()) from None
        if not said and time.monotonic() - began > PATIENCE:
            said = True
            with suppress(OSError):  # released just now
                what, holder = file.parent if file.name == "lock" else file, lock.holder
                who = f"process {holder[1]} on {holder[0].partition('@')[0]}" if holder else "a damaged file"
                sys.stderr.write(f"waiting for {what}: {who} holds its lease\n")
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
    lock = _Lock(str(file))
    try:
        return not lock.dead and not lock.expired
    except OSError:  # there is none
        return False


def _remove_dead(lock: _Lock, file: Path) -> None:
    """Removes the lease of a dead process of this machine, so that nobody has to wait until it expires.

    Only processes on the same machine can see that it is dead; they check one at a time. Processes on other machines
    break expired leases, so an expired one is left to them, except one that a crash has damaged, which nobody breaks.
    """

    def removable() -> bool:
        return lock.holder is None if lock.expired else lock.dead

    try:
        if removable():
            with FileLock(f"{file}.dead"):
                if removable():
                    file.unlink()
    except OSError:  # released just now
        return
