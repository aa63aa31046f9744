"""The processes that train or draw together: started by torchrun, by submitit on SLURM, or just this one."""

import atexit
import os
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process's place among all of them.

    Attributes:
        rank: its number; 0 writes files and speaks.
        size: how many there are.
        device: what it computes on.
    """

    rank: int
    size: int
    device: torch.device

    def barrier(self) -> None:
        """Waits until every process is here."""
        if self.size > 1:
            dist.barrier(device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def mean(self, x: Tensor) -> Tensor:
        """``x`` averaged over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(x)
            x /= self.size
        return x

    def share(self, value: T) -> T:
        """The first process's ``value``, everywhere."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0, device=self.device)
        return box[0]

    def gather(self, x: Tensor) -> list[Tensor]:
        """Every process's ``x`` (first dimensions may differ), by rank, on the CPU."""
        if self.size == 1:
            return [x.cpu()]
        everyone: list[Tensor | None] = [None] * self.size
        dist.all_gather_object(everyone, x.cpu())
        return everyone  # type: ignore[return-value]


@cache
def join(device: torch.device) -> World:
    """Meets the other processes, once; ``device`` is the kind to compute on, each process takes its own of it."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SUBMITIT_LOCAL_NTASKS") or 1
    if "RANK" not in os.environ and int(tasks) > 1:
        from submitit.helpers import TorchDistributedEnvironment

        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        return World(0, 1, device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=1))
    atexit.register(dist.destroy_process_group)
    return World(dist.get_rank(), size, device)
