"""Compute and memory of a network, and the matmul speed of this machine."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from lf.network import Network


def forward_flops(network: Network, wanted: Sequence[bool] | None = None) -> int:
    """FLOPs of the matrix products in a forward pass of one image (a multiply-add is two).

    Forward and backward pass together take three times as many.

    Args:
        network: the network.
        wanted: which streams it predicts; all by default.
    """
    with torch.device("meta"):
        shape = Network(network.config, network.streams, network.label.num_embeddings - 1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shape(*_one_image(shape), wanted=wanted)
    return counter.get_total_flops()


def activation_bytes(network: Network) -> int:
    """Bytes that autograd stores for one image between forward and backward pass, in bfloat16, uncompiled."""
    shape = Network(network.config, network.streams, network.label.num_embeddings - 1).to("meta", torch.bfloat16)
    own = {p.untyped_storage()._cdata for p in shape.parameters()}
    kept: dict[int, int] = {}  # bytes by storage, so that views of one storage count once

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        out = shape(*_one_image(shape, torch.bfloat16))  # noqa: F841 (the saved tensors live as long as it does)
    return sum(kept.values())


def _one_image(network: nn.Module, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor, Tensor]:
    streams = network.streams
    z = [torch.empty(1, *s.shape, device="meta", dtype=dtype) for s in streams]  # type: ignore[union-attr]
    return z, torch.empty(1, len(z), device="meta"), torch.zeros(1, device="meta", dtype=torch.long)


def large_product(device: torch.device, dtype: str) -> tuple[Callable[[], Tensor], int]:
    """A function that computes a large matrix product, and its FLOPs: the upper bound of a device's speed."""
    n = 8192 if device.type == "cuda" else 2048
    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    a, b = (torch.randn(n, n, device=device, dtype=kind) for _ in range(2))
    return lambda: a @ b, 2 * n**3


def matmul_rate(device: torch.device, dtype: str) -> float:
    """FLOP/s of a large matrix product; the reference of a training's model FLOPs utilisation (MFU)."""
    work, flops = large_product(device, dtype)
    best = 0.0
    for _ in range(5):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        best = max(best, flops / (time.perf_counter() - began))
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
