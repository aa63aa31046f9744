"""What a tokenizer loses: images that it never saw, encoded and decoded again, against what they were."""

import hashlib

import torch
from torch import Tensor

from lf import data
from lf.config import Source
from lf.data import Dataset, Shards, to_float, to_uint8
from lf.data.loader import reads
from lf.encoders import Codec
from lf.files import made_once
from lf.metrics import Reference, Space, joined, scores


def held_out(source: Source) -> tuple[Dataset, str]:
    """Images that were not trained on, and the name of their split; shards have none, so of them those of training."""
    images = data.open(source.data, source.resolution, source.runtime.cache)
    if isinstance(images, Shards):
        return images, "train"
    return data.load(source.data, source.resolution, "test", source.runtime.cache), "test"


def reconstruction(codec: Codec, source: Source, space: Space, reference: Reference, n: int) -> dict[str, float | str]:
    """Scores of what ``codec`` makes of ``n`` held-out images; computed once and kept in the store.

    Returns:
        ``psnr``: in dB, the mean over the images (`psnr`); ``rfd``, in other spaces such as Inception's ``rfid``:
        Fréchet distance of the reconstructions to the reference that generated images have, too, so that it is what
        these cannot go below; ``reconstructed_n`` images of the split ``reconstructed_of``. Nothing where there are
        fewer than two images.
    """
    images, split = held_out(source)
    n = min(n, len(images))
    if n < 2:
        return {}
    weights = hashlib.sha256(b"".join(part.float().cpu().numpy().tobytes() for part in codec.state_dict().values()))
    what = [weights.hexdigest(), images.digest, n, space.name, space.weights, reference.digest]
    file = f"reconstruction-{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.safetensors"
    found = made_once(source.runtime.cache / file, lambda: _measured(codec, images, space, reference, n, source))
    numbers: dict[str, float | str] = {name: value.item() for name, value in found.items()}
    return numbers | {"reconstructed_n": float(n), "reconstructed_of": split}


def _measured(
    codec: Codec, images: Dataset, space: Space, reference: Reference, n: int, source: Source
) -> dict[str, Tensor]:
    rows = torch.arange(n) * len(images) // n  # spread: it may be sorted by class
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
    """uint8 images ``(B, 3, H, W)``, encoded and decoded; on the CPU."""
    device = next(codec.buffers()).device
    return to_uint8(codec.decode(codec(to_float(images).to(device)))).cpu()


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """``10 log10(255² / mse)`` of each pair of uint8 images, ``(B,)``, in dB; at most 58.9.

    No error counts less than that of rounding to whole numbers, 1/12.
    """
    mse = (a.double() - b.double()).square().flatten(1).mean(1).clamp_min(1 / 12)
    return 10 * (255**2 / mse).log10()
