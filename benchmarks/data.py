"""`python -m benchmarks data [key=value …]`: read throughput, and time to the first batch.

    python -m benchmarks data rounds=1
    python -m benchmarks data n=64 resolution=64 workers=1

The images are those of `lf.data.shapes`, whose noise makes files as large as those of photographs. The baseline decodes
and crops the originals (JPEG, 1.5 times as large) at every read, as the public code does.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from pydantic import Field

from benchmarks.core import Bench, Work, compare, config_of, keep, show
from lf import data
from lf.data import shapes
from lf.data.image import decode
from lf.data.loader import batches
from lf.data.prepare import Preparing, prepare


class Data(Bench):
    """The keys of the command line."""

    n: int = Field(256, ge=1, description="images")
    resolution: int = Field(256, description="height and width of the images, in pixels")
    batch: int = Field(64, ge=1, description="images of the first batch")
    workers: int = Field(2, ge=1, description="processes that read the first batch")


def originals(folder: Path, n: int, resolution: int) -> list[Path]:
    """Writes JPEG files, larger than the training resolution, in one sub-folder per class."""
    made, files = shapes.make(range(n), resolution), []
    for number, (pixels, label) in enumerate(zip(made.images, made.labels.tolist(), strict=True)):
        place = folder / made.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        files.append(place / f"{number}.jpg")
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(files[-1], quality=95)
    return files


def main(argv: list[str]) -> None:
    config = config_of(argv, Data, __doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = originals(folder / "originals", config.n, config.resolution * 3 // 2)

        def from_originals() -> None:
            torch.stack([decode(file.read_bytes(), config.resolution) for file in files])

        works: dict[str, Work] = {"originals": from_originals}
        first = []
        for kind in ("png", "jpg"):
            values = {"resolution": config.resolution, "format": kind, "shard_size": 1000, "workers": 1}
            prepare(str(folder / "originals"), folder / kind, Preparing.model_validate(values))
            for turn in ("first", "second"):
                began = time.perf_counter()
                images = data.open(f"shards:{folder / kind}", config.resolution, folder / "cache")
                batch = min(config.batch, config.n)
                next(batches(images, batch, range(4), 0, flip=True, workers=config.workers))
                seconds = time.perf_counter() - began
                first.append({"variant": f"{kind} shards, {turn} opening", "seconds": seconds})
            works[f"{kind} shards"] = partial(images.read, range(config.n))
        show("first batch, time on the clock", first)
        keep("first batch", first, config, items=config.batch, workers=config.workers)
        case = f"reading {config.n} images, {config.resolution} px"
        compare(case, works, config, items=config.n)
