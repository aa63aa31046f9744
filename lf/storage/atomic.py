"""Atomic writes: temporary file, fsync, rename."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def replace(file: Path, text: str) -> None:
    """Writes ``text`` to ``file`` atomically: a reader sees either the old text or the new."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    with part.open("w") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.replace(part, file)


def sha256(file: Path) -> str:
    """SHA-256 of a file; read once per process while its size and modification time stay the same."""
    return _sha256(file, file.stat().st_size, file.stat().st_mtime_ns)


@cache
def _sha256(file: Path, size: int, mtime: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def replace_tensors(file: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes ``tensors`` to a safetensors file atomically."""
    from safetensors.torch import save_file  # imported here: it imports torch, which takes a second

    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, metadata)
    os.umask(mask := os.umask(0))
    part.chmod(0o666 & ~mask)  # safetensors makes it readable only by its owner
    with part.open("rb") as f:
        os.fsync(f.fileno())
    os.replace(part, file)
