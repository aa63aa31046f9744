"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lf.claims import claim

if TYPE_CHECKING:
    from torch import Tensor

SHIPPED = Path(__file__).parent / "weights"
"""Judge and encoder `tiny` of ``shapes`` at 32 px, as their code fits them; each machine would round differently."""


def replace(file: Path, text: str) -> None:
    """Writes ``text`` to ``file`` by temp file + fsync + rename: a reader sees the old text or the new."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    with part.open("w") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.replace(part, file)


def sha256(file: Path) -> str:
    """SHA-256 of a file, read once a process as long as size and time stay."""
    return _sha256(file, file.stat().st_size, file.stat().st_mtime_ns)


@cache
def _sha256(file: Path, size: int, mtime: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def replace_tensors(file: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """The same for a safetensors file."""
    from safetensors.torch import save_file  # with torch, a second that text does not need

    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, metadata)
    os.umask(mask := os.umask(0))
    part.chmod(0o666 & ~mask)  # safetensors lets only its owner read it
    with part.open("rb") as f:
        os.fsync(f.fileno())
    os.replace(part, file)


def made_once(file: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors in ``file``, made and kept there at first use; of several processes only one makes them.

    What is `SHIPPED` under the file's name is not made but copied.
    """
    from safetensors.torch import load_file

    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        with claim(Path(f"{file}.lock")):
            if not file.exists():
                shipped = SHIPPED / file.name
                replace_tensors(file, load_file(shipped) if shipped.exists() else make())
    return load_file(file)
