"""Batches for training: which images each step and rank gets, and which process reads them.

    batches(data, batch, steps, seed, *, flip, rank=0, world=1, workers=0) -> Iterator[Batch]
    Damaged(limit).see(batch) -> list[str]        # damaged files not seen before; raises UserError above the limit

A step's batch depends only on (data, batch, seed, step); ranks take slices of it, and workers only read. So every image
is used exactly once per epoch for any number of ranks and workers, and a resumed run just starts at a later step.

WebDataset writes the shards but does not make the batches: its usual pipelines split the shards over ranks and workers.
They repeat or drop images, and they cannot start in the middle of an epoch.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Indexed

from lf.core.errors import UserError
from lf.core.seeds import generator
from lf.data.base import Batch, Dataset, Images

Want = tuple[Tensor, Tensor | None]
"""Rows of a data set, and which of them are mirrored (None: none)."""


def batches(
    data: Dataset,
    batch: int,
    steps: range,
    seed: int,
    *,
    flip: bool,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """The batches of ``steps``, one per step.

    Args:
        data: the data set.
        batch: images per step over all ranks; a multiple of ``world``.
        steps: which steps; a resumed run passes ``range(step, ...)``.
        seed: seed of the order and the flips.
        flip: whether to mirror each image with probability 1/2.
        rank: number of this process, in [0, world).
        world: number of processes; each gets ``batch / world`` images per step.
        workers: processes that read ahead; 0: read in this process, as is always done for data in memory.

    Raises:
        UserError: ``batch`` is no multiple of ``world``.
    """
    if batch % world:
        raise UserError(f"batch={batch}: must be a multiple of the number of processes, {world}")
    share = batch // world
    mine = slice(rank * share, (rank + 1) * share)
    order = lru_cache(maxsize=2)(partial(data.order, seed=seed))

    def wanted() -> Iterator[Want]:
        for step in steps:
            mirrored = torch.rand(batch, generator=generator("flip", seed, step)) < 0.5 if flip else None
            rows = batch_rows(len(data), order, batch, step)
            yield rows[mine], None if mirrored is None else mirrored[mine]

    return reads(data, wanted(), workers)


def batch_rows(n: int, order: Callable[[int], Tensor], batch: int, step: int) -> Tensor:
    """Rows of step ``step`` in an endless sequence of shuffled epochs of ``n`` rows; ``order(epoch)`` shuffles one."""
    place, end, parts = step * batch, (step + 1) * batch, []
    while place < end:
        epoch, at = divmod(place, n)
        parts.append(order(epoch)[at : at + end - place])
        place += len(parts[-1])
    return torch.cat(parts)


def reads(data: Dataset, wanted: Iterable[Want], workers: int = 0) -> Iterator[Batch]:
    """``data.read(rows, flip)`` for each item of ``wanted``, in order, by ``workers`` processes that read ahead."""
    if isinstance(data, Images) or not workers:
        return (data.read(rows, flip) for rows, flip in wanted)
    loader = DataLoader(
        _Reader(data),
        batch_size=None,  # each index is a whole batch
        sampler=wanted,
        num_workers=workers,
        collate_fn=_unchanged,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # so that the loader draws nothing from torch's global generator
    )
    return iter(loader)


class _Reader(Indexed[Batch]):
    """A data set in the form that `DataLoader` needs."""

    def __init__(self, data: Dataset):
        self.data = data

    def __getitem__(self, want: Want) -> Batch:
        return self.data.read(*want)


def _unchanged(batch: Any) -> Any:
    return batch


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Damaged:
    """The damaged images seen so far; at most ``limit`` of them are skipped."""

    def __init__(self, limit: int):
        self.limit = limit
        self.names: set[str] = set()

    def see(self, batch: Batch) -> list[str]:
        """Records a batch; returns the damaged files not seen before.

        Raises:
            UserError: more damaged files than the limit.
        """
        new = [fault for fault in batch.damaged if fault.partition(": ")[0] not in self.names]
        self.names.update(fault.partition(": ")[0] for fault in new)
        if len(self.names) > self.limit:
            raise UserError(
                f"data: {len(self.names)} damaged images, more than limit_damaged={self.limit}; the last: {new[-1]}"
            )
        return new
