"""Safetensors files with digests of their tensors, so that damage is found where they are read.

The tensors fall into sets by their names up to the first dot. Each set has a CRC-32 of its own in the metadata, over
the other metadata and the names, types, shapes and bytes of its tensors: one set can be read, and checked, without the
others. Files without digests, as earlier versions wrote them, are read unchecked.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from lf.storage.atomic import replace_tensors

if TYPE_CHECKING:
    from torch import Tensor

DIGESTS = "digests"
BEFORE = {"step"}  # all metadata of files without digests


class Damaged(Exception):
    """A file cannot be read, or does not hold what was written; the text says why."""


def write(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes ``tensors`` to ``file`` atomically, with digests."""
    there = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about = dict(metadata or {})
    replace_tensors(file, there, about | {DIGESTS: json.dumps(_digests(there, about))})


def read(file: Path, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata; with ``prefix`` only the tensors of that set. Raises `Damaged`."""
    from safetensors import SafetensorError, safe_open  # imported here: it imports torch, which takes a second

    try:
        with safe_open(file, "pt") as opened:
            about, names = dict(opened.metadata() or {}), sorted(opened.keys())
            found = {name: opened.get_tensor(name) for name in names if not prefix or _set(name) == prefix}
        digests = json.loads(about.pop(DIGESTS, "null"))
    except (OSError, SafetensorError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise Damaged(str(error)) from None
    if digests is None and about.keys() <= BEFORE:
        return found, about
    if not isinstance(digests, dict) or digests.keys() != {_set(name) for name in names}:
        raise Damaged("its header is damaged")
    wrong = [name for name, digest in _digests(found, about).items() if digest != digests[name]]
    if wrong:
        raise Damaged(f"damaged: the digest of {', '.join(wrong)} differs from the one it was written with")
    return found, about


def _set(name: str) -> str:
    return name.partition(".")[0]


def _digests(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """The digest of each set of contiguous tensors on the CPU."""
    sets: dict[str, list[str]] = {}
    for name in sorted(tensors):
        sets.setdefault(_set(name), []).append(name)
    start = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())

    def digest(names: Iterable[str]) -> str:
        found = start
        for name in names:
            tensor = tensors[name]
            found = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), found)
            found = zlib.crc32(_bytes(tensor), found)
        return f"{found:08x}"

    with ThreadPoolExecutor() as pool:  # zlib releases the GIL
        return dict(zip(sets, pool.map(digest, sets.values()), strict=True))


def _bytes(tensor: Tensor) -> memoryview:
    import torch

    flat = tensor.reshape(-1)
    flat = flat.new_tensor([flat.item()]) if flat.numel() == 1 else flat  # contiguous at any stride
    return flat.view(torch.uint8).numpy().data
