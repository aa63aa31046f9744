"""Why a cell failed, and what is done about it."""

import hashlib
import re
import traceback

import torch

from lf.errors import UserError
from sweeps.jobs import Failure

POLICY = {
    "preempted": "saved and queued again",
    "timeout": "saved and queued again",
    "lost": "tried again on another node",  # killed, cancelled by others, node gone: it could say nothing
    "memory": "tried again at once with half the micro-batch; the batch stays",
    "nan": "stopped: it would come to the same point again, bit by bit",
    "data": "stopped: the data must be mended",
    "user": "stopped: the config must be changed",
    "bug": "stopped",
    "cancelled": "stopped, as asked",
}
"""Every kind of failure, and what happens then. Those that stop wait for `sweeps.retry`."""

MEMORY = re.compile(r"out of memory|can't allocate memory|bad_alloc|cannot allocate memory", re.I)


def classify(error: BaseException) -> Failure:
    """Tells what kind of failure an exception is."""
    lines = str(error).strip().splitlines()
    message = f"{type(error).__name__}: {lines[0] if lines else ''}"
    places = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    signature = hashlib.sha256(" ".join([type(error).__name__, *places[-5:]]).encode()).hexdigest()[:12]
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or MEMORY.search(str(error)):
        kind = "memory"
    elif isinstance(error, UserError):
        text = str(error)
        kind = "nan" if "not a number" in text else "data" if text.startswith("data") else "user"
        message = text
    elif isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        kind = "lost"  # a file system that went away
    else:
        kind = "bug"
    return Failure(kind, message, signature, trace)
