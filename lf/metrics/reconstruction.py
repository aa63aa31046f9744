"""Reconstruction scores of a tokenizer: held-out images, encoded and decoded, against the originals."""

import hashlib

import torch
from torch import Tensor

from lf import data
from lf.config import Source
from lf.data import Dataset, Shards, to_float, to_uint8
from lf.data.loader import reads
from lf.encoders import Codec
from lf.metrics import Reference, Space, joined, scores
from lf.storage.cache import cache_file, made_once


def held_out(source: Source) -> tuple[Dataset, str]:
    """Held-out images, and the name of their split; shards have none, so their training images are used."""
    images = data.open(source.data, source.resolution, source.runtime.cache, source.runtime.limit_damaged)
    if isinstance(images, Shards):
        return images, "train"
    return data.load(source.data, source.resolution, "test", source.runtime.cache, source.runtime.limit_damaged), "test"


def reconstruction(codec: Codec, source: Source, space: Space, reference: Reference, n: int) -> dict[str, float | str]:
    """Scores of ``n`` held-out images, reconstructed by ``codec``; computed once and cached in the run store.

    Returns:
        ``psnr``: in dB, the mean over the images (`psnr`); ``rfd`` (``rfid`` with Inception's features): Fréchet
        distance of the reconstructions to the reference of the generated images, and so their lower bound;
        ``reconstructed_n`` and ``reconstructed_of``: number of images, and their split. Empty if there are fewer than
        two images.
    """
    images, split = held_out(source)
    n = min(n, len(images))
    if n < 2:
        return {}
    weights = hashlib.sha256(b"".join(part.float().cpu().numpy().tobytes() for part in codec.state_dict().values()))
    what = [weights.hexdigest(), images.digest, n, space.name, space.weights, reference.digest]
    file = cache_file(source.runtime.cache, "reconstruction", repr(what))
    found = made_once(file, lambda: _measured(codec, images, space, reference, n, source))
    numbers: dict[str, float | str] = {name: value.item() for name, value in found.items()}
    return numbers | {"reconstructed_n": float(n), "reconstructed_of": split}


def _measured(
    codec: Codec, images: Dataset, space: Space, reference: Reference, n: int, source: Source
) -> dict[str, Tensor]:
    rows = torch.arange(n) * len(images) // n  # evenly spread: it may be sorted by class
    parts, noise_ratios = [], []
    for batch in reads(images, ((some, None) for some in rows.split(source.runtime.batch)), source.runtime.workers):
        before = batch.images[batch.valid]
        after = reconstructed(codec, before)
        noise_ratios.append(psnr(before, after))
        parts.append(space.features(after))
    distance = scores(space, joined(parts), reference)[space.column("fd")]
    found = {"psnr": torch.cat(noise_ratios).mean().item(), f"r{space.column('fd')}": distance}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}


@torch.no_grad()
def reconstructed(codec: Codec, images: Tensor) -> Tensor:
    """Encodes and decodes uint8 images ``(B, 3, H, W)``; returns uint8 on the CPU."""
    device = next(codec.buffers()).device
    return to_uint8(codec.decode(codec(to_float(images).to(device)))).cpu()


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """``10 log10(255² / mse)`` of each pair of uint8 images, ``(B,)``, in dB; at most 58.9.

    The mean squared error is at least 1/12, that of rounding to whole numbers.
    """
    mse = (a.double() - b.double()).square().flatten(1).mean(1).clamp_min(1 / 12)
    return 10 * (255**2 / mse).log10()
