"""Kinds of failures, and what happens after each."""

import hashlib
import re
import traceback

import torch

from lf.core.errors import NotANumberError, UserError, storage_fault
from sweeps.jobs.records import Failure

POLICY = {
    "preempted": "checkpointed and requeued",
    "timeout": "checkpointed and requeued",
    "vanished": "resubmitted on another node",  # killed, cancelled by SLURM, node failure: it left no record
    "memory": "retried at once with half the micro-batch; the batch stays the same",
    "nan": "stopped: a rerun would reach the same NaN",
    "data": "stopped: fix the data",
    "storage": "stopped: make room, or fix the permissions",
    "user": "stopped: fix the config",
    "bug": "stopped: fix the cause",
    "cancelled": "stopped on request",
}
"""Every kind of failure, and what happens after it. Stopped tasks run again after `sweeps.retry`."""

# PyTorch's allocators, C++, the C library, and the loader of shared libraries.
MEMORY = re.compile(
    r"out of memory|(can't|cannot) allocate memory|bad_alloc|failed to map segment from shared object", re.I
)


def classify(error: BaseException) -> Failure:
    """The failure that an exception stands for: its kind, message, signature and traceback."""
    lines = str(error).strip().splitlines()
    message = f"{type(error).__name__}: {lines[0] if lines else ''}"
    places = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    signature = hashlib.sha256(" ".join([type(error).__name__, *places[-5:]]).encode()).hexdigest()[:12]
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or MEMORY.search(str(error)):
        kind = "memory"
    elif isinstance(error, UserError):
        text = str(error)
        kind = "nan" if isinstance(error, NotANumberError) else "data" if text.startswith("data") else "user"
        message = text
    elif storage_fault(error):
        kind, message = "storage", storage_fault(error)
    elif isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        kind = "vanished"  # such as an unreachable file system
    else:
        kind = "bug"
    return Failure(kind, message, signature, trace)
