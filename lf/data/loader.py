"""Batches for training: which images a step sees, on which rank, and who reads them.

    batches(data, batch, steps, seed, *, flip, rank=0, world=1, workers=0) -> Iterator[Batch]
    Damaged(limit).see(batch) -> list[str]        # newly seen damaged files; raises UserError beyond the limit

A step's batch is a function of (data, batch, seed, step) alone; ranks take slices of it and workers only read. So every
image comes exactly once an epoch whatever the number of ranks and workers, and going on is starting at another step.

WebDataset writes and groups the shards, but is not asked for the batches: its usual pipelines split the shards over
ranks and workers, so they repeat or drop images, and they cannot start in the middle of an epoch.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Indexed

from lf.data.base import Batch, Dataset, Images
from lf.errors import UserError
from lf.seeds import generator

Want = tuple[Tensor, Tensor | None]
"""Rows of a data set and, where asked for, which of them are mirrored."""


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
    """The batches of ``steps``, one a step.

    Args:
        data: what to read.
        batch: images a step over all ranks; a multiple of ``world``.
        steps: which steps; a run that was stopped goes on with ``range(step, ...)``.
        seed: of the order and the flips.
        flip: mirrors every image with probability 1/2.
        rank: this process, in [0, world).
        world: number of processes; each gets ``batch / world`` images of every step.
        workers: processes that read ahead; 0 reads in this one, as data in memory always does.

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
    """Rows of step ``step`` in an endless run of shuffled epochs of ``n``; ``order(epoch)`` is an epoch's order."""
    place, end, parts = step * batch, (step + 1) * batch, []
    while place < end:
        epoch, at = divmod(place, n)
        parts.append(order(epoch)[at : at + end - place])
        place += len(parts[-1])
    return torch.cat(parts)


def reads(data: Dataset, wanted: Iterable[Want], workers: int = 0) -> Iterator[Batch]:
    """``data.read(rows, flip)`` for each of ``wanted``, in its order, by ``workers`` processes that read ahead."""
    if isinstance(data, Images) or not workers:
        return (data.read(rows, flip) for rows, flip in wanted)
    loader = DataLoader(
        _Reader(data),
        batch_size=None,  # one index is a whole batch
        sampler=wanted,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # draws nothing that counts, and leaves torch's own alone
    )
    return iter(loader)


class _Reader(Indexed[Batch]):
    """A data set as the `DataLoader` wants it."""

    def __init__(self, data: Dataset):
        self.data = data

    def __getitem__(self, want: Want) -> Batch:
        return self.data.read(*want)


def _as_it_is(batch: Any) -> Any:
    return batch


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Damaged:
    """Damaged images met so far; up to ``limit`` of them are put up with."""

    def __init__(self, limit: int):
        self.limit = limit
        self.names: set[str] = set()

    def see(self, batch: Batch) -> list[str]:
        """Takes note of a batch; returns the damaged files that were not met before.

        Raises:
            UserError: there are more than the limit.
        """
        new = [fault for fault in batch.damaged if fault.partition(": ")[0] not in self.names]
        self.names.update(fault.partition(": ")[0] for fault in new)
        if len(self.names) > self.limit:
            raise UserError(
                f"data: {len(self.names)} damaged images and limit_damaged={self.limit}; the last: {new[-1]}"
            )
        return new
