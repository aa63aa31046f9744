"""The run store's cache of results that are computed once: decoded data, encoders, judges, statistics."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lf.core.errors import UserError
from lf.storage import verified
from lf.storage.lease import lease

if TYPE_CHECKING:
    from torch import Tensor

SHIPPED = Path(__file__).parents[1] / "weights"
"""Weights of the judge and of encoder `tiny` for ``shapes`` at 32 px, since machines round differently in training."""


def cache_file(cache: Path, kind: str, identity: str) -> Path:
    """The file of a cached result, named by ``kind`` and a hash of ``identity``, which names all that it depends on."""
    return cache / f"{kind}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.safetensors"


def made_once(file: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors in ``file``. They are computed at first use, by only one of several processes.

    A file of the same name in `SHIPPED` is copied instead. A damaged file is made again.
    """
    from safetensors.torch import load_file  # imported here: it imports torch, which takes a second

    if (found := _read(file)) is not None:
        return found
    with lease(Path(f"{file}.lock")):
        if (found := _read(file)) is None:
            shipped = SHIPPED / file.name
            verified.write(file, load_file(shipped) if shipped.exists() else make())
            found = read_cached(file)
    return found


def read_cached(file: Path) -> dict[str, Tensor]:
    """The tensors in a cached file that exists. Raises `UserError` if it is damaged."""
    try:
        return verified.read(file)[0]
    except verified.Damaged as error:
        raise UserError(f"cannot read {file}: {error}; remove it, and it is made again") from None


def _read(file: Path) -> dict[str, Tensor] | None:
    """The tensors in ``file``; None if there is none, or, with a warning, if it is damaged."""
    if not file.exists():
        return None
    try:
        return verified.read(file)[0]
    except verified.Damaged as error:
        print(f"warning: {file}: {error}; it is made again", file=sys.stderr)
        return None
