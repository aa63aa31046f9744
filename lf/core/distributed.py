"""Distributed processes, started by torchrun or by submitit on SLURM; without either, this process alone."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The group of distributed processes, as this process sees it.

    Attributes:
        rank: this process's number, in [0, size); rank 0 writes files and prints.
        size: number of processes.
        device: this process's device.
    """

    rank: int
    size: int
    device: torch.device

    def barrier(self) -> None:
        """Waits until every process has called it."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier(device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def mean(self, x: Tensor) -> Tensor:
        """Averages ``x`` over all processes, in place, and returns it."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(x)
            x /= self.size
        return x

    def share(self, value: T) -> T:
        """Broadcasts rank 0's ``value``, any object that can be pickled."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, 0, device=self.device)
        return box[0]

    def gather(self, x: Tensor) -> list[Tensor]:
        """The ``x`` of every process, by rank, on the CPU; their first dimensions may differ."""
        if self.size == 1:
            return [x.cpu()]
        import torch.distributed as dist

        everyone: list[Tensor | None] = [None] * self.size
        dist.all_gather_object(everyone, x.cpu())
        return everyone  # type: ignore[return-value]


@cache
def join(device: torch.device) -> World:
    """Initialises the process group, once per process.

    Args:
        device: where to compute; with several processes, only its type counts, and each process gets its own GPU.
    """
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SUBMITIT_LOCAL_NTASKS") or 1
    if "RANK" not in os.environ and int(tasks) > 1:
        from submitit.helpers import TorchDistributedEnvironment

        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        return World(0, 1, device)
    import torch
    import torch.distributed as dist

    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=1))
    atexit.register(dist.destroy_process_group)
    return World(dist.get_rank(), size, device)
