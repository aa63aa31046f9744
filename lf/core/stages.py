"""Says what a command does while it does it: a bar on a terminal; elsewhere a line, if it takes over 3 seconds.

Imports no torch.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

SECONDS = 3.0  # a shorter stage says nothing
_listeners: list[Callable[[str], None]] = []


@contextmanager
def stage(what: str, total: int | None = None, unit: str = "step", done: int = 0) -> Iterator[tqdm]:
    """A stage of a command. Yields its bar, whose ``update(n)`` says that ``n`` more units are done.

    Args:
        what: what is done, such as ``trains the judge``.
        total: number of units; None: unknown.
        unit: what is counted.
        done: units that were done earlier.
    """
    size = f" ({total - done:,} {unit}s)" if total else ""
    bar = tqdm(total=total, initial=done, desc=what, unit=unit, leave=False, delay=SECONDS, disable=None)

    def say() -> None:
        if bar.disable:
            sys.stderr.write(f"{what}{size}\n")  # one write: other processes also write
        for listener in _listeners:
            listener(f"{what}{size}")

    timer = threading.Timer(SECONDS, say)
    timer.daemon = True
    timer.start()
    try:
        yield bar
    finally:
        timer.cancel()
        bar.close()


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Calls ``listener`` with what every longer stage does; a job tells its launcher so."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
