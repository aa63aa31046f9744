"""Cooperative preemption: a run checkpoints after the current step, then exits; the same command resumes it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOST = "its lease was taken over"  # then it must not write: another process owns the run
_reason = ""


class Stopped(Exception):
    """A run has stopped on request. A training has saved its checkpoint, unless it lost its lease."""


def ask(reason: str) -> None:
    """Requests a stop."""
    global _reason
    _reason = reason


def asked() -> str:
    """The reason of the requested stop; empty if none was requested."""
    return _reason


@contextmanager
def on(*signals: signal.Signals) -> Iterator[None]:
    """A first signal requests a stop after the current step; a second one ends the process at once."""
    before = {number: signal.getsignal(number) for number in signals}

    def handler(number: int, frame: Any) -> None:
        ask(signal.Signals(number).name)
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in signals:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        ask("")
