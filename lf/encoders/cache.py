"""`python -m lf.encoders.cache ENCODER SHARDS [key=value …]`: computes the latents of shards, as shards beside them.

    python -m lf.encoders.cache dinov2 shards:/data/in256
    python -m lf.encoders.cache '{name: pixels, cells: 2}' /data/in256

ENCODER is a name or, with parameters, as in the second example; SHARDS is as in ``data=shards:…``. For each image
``KEY`` it writes ``KEY.0.npy``, its latent ``(C, h, w)``, and ``KEY.1.npy``, that of its mirror image, in the images'
order. Training with ``runtime.latents=cached`` (or ``auto``) then runs no encoder. DINOv2 at 256 px takes 0.8 MB per
image.

The same command resumes an interrupted run.
"""

import hashlib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from lf import data, encoders
from lf.core.cli import config_from, run_command
from lf.core.errors import UserError
from lf.core.parsing import overrides
from lf.core.runtime import Runtime
from lf.core.stages import stage
from lf.data import Dataset, Images, Shards, tars, to_float
from lf.data.loader import cores, reads
from lf.data.shards import key_of
from lf.data.tars import Folder, Table
from lf.encoders.base import Encode, Encoder

Mode = Literal["auto", "cached", "online"]
CHUNK = 500  # images encoded at a time, of a data set in memory


class Caching(BaseModel):
    """The keys of the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    patch: int = Field(16, ge=1, description="side of a pixel patch, as network.patch in lf.train")
    resolution: int = Field(256, ge=8, description="height and width of the images, in pixels")
    dtype: Literal["float16", "float32"] = Field("float16", description="number format on disk")
    batch: int = Field(64, ge=1, description="images encoded at a time")
    workers: int = Field(cores(), ge=0, description="processes that read images")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")
    cache: str = Field("", description="folder in which encoders cache their files; by default in the run store")
    runs: str = Field("runs", description="folder of the run store")

    @property
    def cached(self) -> Path:
        """The folder in which encoders cache their files."""
        return Path(self.cache) if self.cache else Path(self.runs).expanduser() / "cache"


def attach(
    dataset: Dataset, wanted: Sequence[Encoder], patch: int, cache: Path, flip: bool, mode: Mode = "auto"
) -> tuple[Dataset, list[Encode] | None]:
    """``dataset`` with cached latents; or unchanged, with the encoders to run on its batches.

    Args:
        dataset: the training images.
        wanted: encoders whose latents are needed, in this order.
        patch: side of a pixel patch.
        cache: folder in which encoders cache their files.
        flip: whether images will be mirrored, which needs latents of the mirror images.
        mode: ``cached``: the latents of images in memory are computed now; those of shards are read from the files of
            this command. ``online``: no latents are cached. ``auto``: cached for images in memory and for shards whose
            latents exist.

    Returns:
        The data set whose batches have ``latents``, and None; or ``dataset`` and the loaded encoders.

    Raises:
        UserError: ``mode`` is ``cached``, and latents of the shards are missing.
    """
    if mode != "online" and isinstance(dataset, Images):
        latents = tuple(_encoded(dataset, encoder.load(dataset, patch, cache), flip) for encoder in wanted)
        return replace(dataset, latents=latents), None
    if mode != "online" and isinstance(dataset, Shards):
        folders = [folder_of(dataset, encoder, patch) for encoder in wanted]
        missing = [e for e, folder in zip(wanted, folders, strict=True) if not tars.index(folder)]
        if not missing:
            return dataset.with_latents(folders), None
        if mode == "cached":
            raise UserError(
                f"latents of {missing[0].name} are not cached for {dataset.name}; run: python -m lf.encoders.cache "
                f"{_word(missing[0])} {dataset.name} patch={patch} resolution={dataset.resolution}"
            )
    return dataset, [encoder.load(dataset, patch, cache) for encoder in wanted]


@torch.no_grad()
def _encoded(data: Images, encode: Encode, flip: bool) -> Tensor:
    """Latents of all images and, with ``flip``, of their mirror images: ``(flips, N, C, h, w)``."""
    sides = [data.images, data.images.flip(-1)] if flip else [data.images]
    return torch.stack([torch.cat([encode(to_float(part)) for part in side.split(CHUNK)]) for side in sides])


def folder_of(shards: Shards, encoder: Encoder, patch: int) -> Path:
    """The folder of the latents of ``shards``: beside the images, named by a hash of all that they depend on."""
    what = f"{encoder.model_dump_json(exclude={'loss_weight'})} {patch} {shards.digest}"
    name = f"{encoder.name}-{hashlib.sha256(what.encode()).hexdigest()[:12]}"
    return shards.tars.files[0].parent / "latents" / name


def write(shards: Shards, encoder: Encoder, config: Caching, device: torch.device) -> bool:
    """Writes the latents of ``shards``; False if they are finished already.

    Raises:
        UserError: encoder or resolution do not fit the patch size, the latents exist in another dtype, or a value is
            not finite in ``config.dtype``.
    """
    shape = encoder.stream(shards.resolution, config.patch).shape
    if shards.resolution % config.patch:
        raise UserError(f"patch={config.patch}: must divide the resolution, {shards.resolution}")
    folder = Folder(
        folder_of(shards, encoder, config.patch),
        {"encoder": encoder.model_dump(mode="json", exclude={"loss_weight"}), "dtype": config.dtype},
    )
    if folder.finished:
        folder.tidy()
        return False
    encode = encoder.load(shards, config.patch, config.cached).to(device)

    parts = [[some for some in rows.split(config.batch) if len(some)] for rows in shards.rows()]
    names = [f"latents-{number:06d}.tar" for number in range(len(parts))]
    with folder.held(), stage(f"caches {encoder.name}", len(shards), "image") as bar:
        todo = [(name, part) for name, part in zip(names, parts, strict=True) if not folder.done(name)]
        read = reads(shards, ((some, None) for _, part in todo for some in part), config.workers)
        bar.update(len(shards) - sum(len(some) for _, part in todo for some in part))

        @torch.no_grad()
        def samples(part: Sequence[Tensor]) -> Iterator[dict[str, Any] | str]:
            for some in part:
                batch = next(read)
                yield from batch.damaged  # their latents are those of the black image that `Shards.read` gives
                x = to_float(batch.images).to(device)
                sides = [encode(side).to(getattr(torch, config.dtype)).cpu() for side in (x, x.flip(-1))]
                if not all(side.isfinite().all() for side in sides):
                    raise UserError(f"a latent of {encoder.name} is not finite in dtype={config.dtype}")
                for row, *latents in zip(some.tolist(), *(side.numpy() for side in sides), strict=True):
                    key = key_of(shards.samples, row)
                    yield {"__key__": key} | {f"{flip}.npy": latent for flip, latent in enumerate(latents)}
                bar.update(len(some))

        for name, part in todo:
            folder.write(name, samples(part), _table)
        folder.finish(names, lambda _: {"shape": shape})
    return True


def _table(file: Path) -> Table:
    places = torch.tensor([[member["0.npy"], member["1.npy"]] for member in tars.members(file)], dtype=torch.int64)
    offset, size = places.reshape(-1, 2, 2).unbind(-1)
    return {"offset": offset, "size": size}


def _word(encoder: Encoder) -> str:
    """An encoder in the form of the command line."""
    given = encoder.model_dump(mode="json", exclude_defaults=True, exclude={"name", "loss_weight"})
    return shlex.quote(json.dumps({"name": encoder.name} | given)) if given else encoder.name


def main(argv: list[str]) -> None:
    config = config_from(argv, Caching, "cache", __doc__, positional=2)
    given = overrides([f"encoder={argv[0]}"])["encoder"]
    encoder = encoders.create(**(given if isinstance(given, dict) else {"name": given}))
    shards = data.open(f"shards:{argv[1].removeprefix('shards:')}", config.resolution, config.cached)
    assert isinstance(shards, Shards)
    made = write(shards, encoder, config, Runtime(device=config.device).torch_device)
    print(f"{'done' if made else 'done already'}: {folder_of(shards, encoder, config.patch)}")


if __name__ == "__main__":
    run_command(main)
