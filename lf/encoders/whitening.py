"""Whitening: mean and variance of an encoder's latents over a data set, per channel or per element."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from lf.data.base import Dataset, to_float
from lf.data.loader import reads
from lf.encoders.weights import read
from lf.errors import UserError

EPS = 1e-5  # added to a variance (RAE)

Per = Literal["channel", "element"]
"""One mean and variance a channel, ``(C, 1, 1)``; or one for each channel and place, ``(C, h, w)``."""


class Moments:
    """Mean and variance of what was added so far, merged batch by batch (Chan et al.) in float64."""

    def __init__(self, per: Per):
        self.dims = (0,) if per == "element" else (0, 2, 3)
        self.count = 0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0  # sum of squared distances from the mean

    def add(self, latents: Tensor) -> None:
        """``(B, C, h, w)``, B ≥ 1."""
        x = latents.double()
        mean = x.mean(self.dims, keepdim=True)
        squares = (x - mean).square().sum(self.dims, keepdim=True)
        n = x.numel() // mean.numel()
        delta, total = mean - self.mean, self.count + n
        self.mean = self.mean + delta * (n / total)
        self.squares = self.squares + squares + delta.square() * (self.count * n / total)
        self.count = total

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
        data: the images; damaged ones count nothing.
        per: see `Per`.
        device: where to compute.
        batch: images at a time.
        n: only so many images, spread evenly over the set (which may be sorted by class); 0: all.
        workers: processes that read ahead.

    Returns:
        ``mean`` and ``var``, and the number of images that counted.

    Raises:
        UserError: no image could be read.
    """
    total = min(n or len(data), len(data))
    rows = torch.arange(total) * len(data) // total
    moments, counted = Moments(per), 0
    with tqdm(total=total, desc="whitening", unit="image", disable=None) as bar:
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
    """``mean`` and ``var`` from a file of ours or RAE's ``stat.pt``.

    Args:
        key: what an error calls it, such as ``dinov2.stats``.
        file: ``.safetensors``, or a torch pickle of a dict.
        shape: of both tensors, without leading ones.
        hint: where such a file comes from, for an error.

    Raises:
        UserError: no such file, or not of this encoder.
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
            raise UserError(f"{key}={file}: {name} is {tuple(tensor.shape)} and should be {shape}")
        out[name] = tensor.float()
    return out
