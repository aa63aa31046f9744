"""Asking a run to stop: it saves itself at the end of its step, and goes on from there another time."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOST = "its claim was taken over"  # nothing may be saved then: another process has it
_reason = ""


class Stopped(Exception):
    """A run has stopped because it was asked to, and what it had done is saved."""


def ask(reason: str) -> None:
    """Asks what runs in this process to stop."""
    global _reason
    _reason = reason


def asked() -> str:
    """Why it should stop; empty as long as nobody asked."""
    return _reason


@contextmanager
def on(*signals: signal.Signals) -> Iterator[None]:
    """Takes ``signals`` as the wish to stop; a second one is obeyed at once, as before."""
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
