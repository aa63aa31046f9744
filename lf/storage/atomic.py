"""Atomic writes: temporary file, fsync, rename. A write that fails leaves the old file and no temporary one."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def _part(file: Path) -> Iterator[Path]:
    """A temporary file beside ``file``, which it replaces at the end. An `OSError` names ``file``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as f:
            os.fsync(f.fileno())
        os.replace(part, file)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def replace(file: Path, text: str) -> None:
    """Writes ``text`` to ``file`` atomically: a reader sees either the old text or the new."""
    with _part(file) as part:
        part.write_text(text)


def sha256(file: Path) -> str:
    """SHA-256 of a file; read once per process while its size and modification time stay the same."""
    return _sha256(file, file.stat().st_size, file.stat().st_mtime_ns)


@cache
def _sha256(file: Path, size: int, mtime: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def replace_tensors(file: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes ``tensors`` to a safetensors file atomically."""
    from safetensors import SafetensorError  # imported here: it imports torch, which takes a second
    from safetensors.torch import save_file

    with _part(file) as part:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, metadata)
        except SafetensorError as error:
            if fault := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(fault[1]), os.strerror(int(fault[1]))) from None
            raise
        os.umask(mask := os.umask(0))
        part.chmod(0o666 & ~mask)  # safetensors makes it readable only by its owner
