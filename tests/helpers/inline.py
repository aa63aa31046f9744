"""Sweeps in the process of the tests: the launcher and its tasks are the real ones, only no process is started."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from sweeps.jobs import monitor
from sweeps.jobs.executors import Local, record_job
from sweeps.jobs.task import TaskRunner


class Inline(Local):
    """Runs each training and its evaluations here, one after the other, as soon as it is asked how they are."""

    def states(self) -> dict[str, str]:
        while self.waiting:
            tasks, job = self.waiting.pop(0).tasks, f"inline-{len(self.ended)}"
            for task in tasks:
                record_job(task, job, "local", "")
            self.ended[job] = "FAILED"
            with suppress(Exception):  # it leaves word of itself, as in a process of its own
                TaskRunner(tasks, self.sweep)()
                self.ended[job] = "COMPLETED"
        return dict(self.ended)


@contextmanager
def inline() -> Iterator[None]:
    """Launches on this machine start no process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "Local", Inline)
        yield
