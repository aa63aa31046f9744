"""Whitening: mean and variance of an encoder's latents over a data set, per channel or per element."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lf.core.errors import UserError
from lf.core.stages import stage
from lf.data.base import Dataset, to_float
from lf.data.loader import reads
from lf.data.moments import merge
from lf.encoders.weights import read

EPS = 1e-5  # added to a variance (RAE)

Per = Literal["channel", "element"]
"""One mean and variance per channel, ``(C, 1, 1)``; or per channel and position, ``(C, h, w)``."""


class RunningVariance:
    """Running mean and variance, merged batch by batch in float64."""

    def __init__(self, per: Per):
        self.dims = (0,) if per == "element" else (0, 2, 3)
        self.count = 0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0  # sum of squared distances from the mean

    def add(self, latents: Tensor) -> None:
        """Adds latents ``(B, C, h, w)``, B ≥ 1."""
        x = latents.double()
        mean = x.mean(self.dims, keepdim=True)
        squares = (x - mean).square().sum(self.dims, keepdim=True)
        n = x.numel() // mean.numel()
        self.count, self.mean, delta, weight = merge(self.count, self.mean, n, mean)
        self.squares = self.squares + squares + delta.square() * weight

    def result(self) -> dict[str, Tensor]:
        """``mean`` and (population) ``var``, float32 on the CPU."""
        found = {"mean": torch.as_tensor(self.mean)[0], "var": torch.as_tensor(self.squares / self.count)[0]}
        return {name: tensor.float().cpu() for name, tensor in found.items()}


@torch.no_grad()
def measure(
    encode: Callable[[Tensor], Tensor],
    data: Dataset,
    per: Per,
    device: torch.device,
    *,
    batch: int = 64,
    n: int = 0,
    workers: int = 0,
) -> tuple[dict[str, Tensor], int]:
    """Mean and variance of an encoder's latents over a data set, in one pass.

    Args:
        encode: images in [-1, 1] → latents ``(B, C, h, w)``; on ``device``.
        data: the images; damaged ones are left out.
        per: see `Per`.
        device: device of the computation.
        batch: images at a time.
        n: number of images, evenly spread over the set (which may be sorted by class); 0: all.
        workers: processes that read ahead.

    Returns:
        ``mean`` and ``var``, and the number of images used.

    Raises:
        UserError: no image could be read.
    """
    total = min(n or len(data), len(data))
    rows = torch.arange(total) * len(data) // total
    moments, counted = RunningVariance(per), 0
    with stage("measures the latents' mean and variance", total, "image") as bar:
        for got in reads(data, [(some, None) for some in rows.split(batch)], workers):
            images = got.images[got.valid]
            if len(images):
                moments.add(encode(to_float(images.to(device))))
            counted += len(images)
            bar.update(len(got.images))
    if not counted:
        raise UserError(f"data={data.name}: none of {total} images could be read")
    return moments.result(), counted


def load(key: str, file: Path, shape: tuple[int, ...], hint: str) -> dict[str, Tensor]:
    """``mean`` and ``var`` from a file of `lf.encoders.whiten` or RAE's ``stat.pt``.

    Args:
        key: its name in error messages, such as ``dinov2.stats``.
        file: ``.safetensors``, or a torch pickle of a dict.
        shape: shape of both tensors, without leading dimensions of size 1.
        hint: how to get such a file, for error messages.

    Raises:
        UserError: no such file, or it is not of this encoder.
    """
    if not file.is_file():
        raise UserError(f"{key}={file}: no such file; {hint}")
    found = read(key, file)
    out = {}
    for name in ("mean", "var"):
        tensor = found.get(name)
        if not isinstance(tensor, Tensor):
            raise UserError(f"{key}={file}: has no tensor '{name}'; {hint}")
        while tensor.ndim > len(shape) and tensor.shape[0] == 1:
            tensor = tensor[0]
        if tensor.shape != shape:
            raise UserError(f"{key}={file}: {name} has shape {tuple(tensor.shape)}, expected {shape}")
        out[name] = tensor.float()
    return out
