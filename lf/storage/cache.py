"""The run store's cache of results that are computed once: decoded data, encoders, judges, statistics."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lf.storage.atomic import replace_tensors
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

    A file of the same name in `SHIPPED` is copied instead.
    """
    from safetensors.torch import load_file  # imported here: it imports torch, which takes a second

    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        with lease(Path(f"{file}.lock")):
            if not file.exists():
                shipped = SHIPPED / file.name
                replace_tensors(file, load_file(shipped) if shipped.exists() else make())
    return load_file(file)
