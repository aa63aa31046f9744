"""Tar shards as other programs write them, and images to put into them."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import webdataset
from PIL import Image
from torch import Tensor


def picture(number: int, width: int = 8, height: int = 8) -> Image.Image:
    """An image of its own for every number, with slopes and noise."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))
    noise = rng.integers(-8, 9, smooth.shape)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def packed(folder: Path, counts: Sequence[int], size: int = 8) -> str:
    """Writes a tar file for each of ``counts``, images numbered on; returns their pattern. Labels are number mod 3."""
    number = 0
    folder.mkdir(parents=True, exist_ok=True)
    for shard, count in enumerate(counts):
        with webdataset.TarWriter(str(folder / f"part-{shard:03d}.tar")) as writer:
            for _ in range(count):
                key = f"some/{number:05d}"
                writer.write({"__key__": key, "png": png(picture(number, size, size)), "cls": str(number % 3)})
                number += 1
    return f"{folder}/part-{{000..{len(counts) - 1:03d}}}.tar"


def pixels(images: Sequence[Image.Image]) -> Tensor:
    """``(N, 3, H, W)`` uint8."""
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images])
