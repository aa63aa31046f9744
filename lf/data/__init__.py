"""Images by name.

``shapes``; ``digits`` (scikit-learn's handwritten digits); ``folder:PATH`` (one sub-folder per class; see
`lf.data.folder`); ``shards:FOLDER`` or ``shards:PATTERN`` (WebDataset tar files, such as
``shards:/data/train-{000..127}.tar``; see `lf.data.shards`).

`load` reads one of three splits into memory: ``train``; ``test``, which is held out (the floor of every score is test
against train); and ``judge``, on which the judge of `lf.metrics` is trained (for real images this is ``train``). All
images of shards are training images: their ``test`` split is empty. `open` opens the training images; shards stay on
disk.
"""

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch.nn import functional as F

from lf.core.errors import UserError, few, nearest
from lf.core.stages import stage
from lf.data import shapes
from lf.data.base import Batch, Dataset, Images, to_float, to_uint8
from lf.data.folder import open_folder, read_image
from lf.data.image import CROP, Unreadable, decode
from lf.data.members import dense, text_of, texts
from lf.data.shards import Shards, contents, open_shards
from lf.storage.cache import made_once

Split = Literal["train", "test", "judge"]
SHAPES_SPLITS = {"train": range(20_000), "test": range(100_000, 104_000), "judge": range(200_000, 220_000)}
WORDS, KINDS = ("shapes", "digits"), ("folder:", "shards:", "parquet:")
TAR = ".tar"  # in the names of tar files, also of compressed ones
PARQUET = ".parquet"
TEST_SHARE = 5  # every fifth image of a real data set is in the test split


def named(name: str) -> str:
    """The name of a data set; ``folder:PATH``, ``shards:PATH`` or ``parquet:PATH`` if ``name`` is a path only."""
    place = Path(os.path.expanduser(name))
    if name in ("", *WORDS) or name.startswith(KINDS) or not (place.exists() or TAR in name):
        return name
    held = list(place.iterdir()) if place.is_dir() else [place]
    if TAR in place.name or any(TAR in child.name for child in held):
        return f"shards:{name}"
    of_parquet = any(child.suffix == PARQUET for child in held) and not any(child.is_dir() for child in held)
    return f"{'parquet' if of_parquet else 'folder'}:{name}"


def digest(name: str, resolution: int) -> str:
    """Identity of a data set: equal digest, equal images. Names and contents of files are hashed.

    Raises:
        UserError: unknown data set, missing path, or shards prepared at another resolution.
    """
    kind, _, place = name.partition(":")
    if kind == "shapes" and not place:
        what = f"shapes {shapes.VERSION} {SHAPES_SPLITS}"
    elif kind == "digits" and not place:
        what = "scikit-learn digits 1"
    elif kind == "folder" and place:
        what = f"{CROP} {open_folder(place).digest()}"
    elif kind == "shards" and place:
        what = f"{CROP} {contents(place, resolution)}"
    elif kind == "parquet":
        raise UserError(
            f"data={name}: parquet files must be prepared: python -m lf.data.prepare '{name}' OUT "
            f"resolution={resolution}; then data=shards:OUT"
        )
    elif not name:
        raise UserError("data: this preset needs your images; give data=shards:PATTERN or data=folder:PATH")
    else:
        allowed = nearest(kind, [*WORDS, "folder:PATH", "shards:PATTERN"])
        raise UserError(f"data={name}: unknown, and no such folder or file; {allowed}")
    return hashlib.sha256(f"{what} {resolution}".encode()).hexdigest()[:16]


def open(name: str, resolution: int, cache: Path, limit_damaged: int = 0) -> Dataset:
    """The training images: shards on disk, or the train split in memory. Arguments and errors as in `load`."""
    kind, _, place = name.partition(":")
    if kind == "shards":
        return open_shards(place, resolution, digest(name, resolution), cache)
    return load(name, resolution, "train", cache, limit_damaged)


def load(name: str, resolution: int, split: Split, cache: Path, limit_damaged: int = 0) -> Images:
    """The images of one split, in memory; rendered or decoded once, then read from ``cache``.

    Args:
        name: see the module's docstring.
        resolution: height and width in pixels; images of another size are cropped to it (`lf.data.image.crop`).
        split: see the module's docstring.
        cache: folder of cached images.
        limit_damaged: most damaged images that are left out.

    Raises:
        UserError: as in `digest`, or more damaged images than the limit.
    """
    whole = digest(name, resolution)
    kind, _, place = name.partition(":")
    file = cache / f"{f'shapes-{split}' if kind == 'shapes' else kind}-{whole}.safetensors"
    identity = whole if split == "train" else f"{whole}-{split}"
    if kind == "shapes":
        tensors = made_once(file, lambda: _shapes(resolution, split))
        return Images(name, identity, tensors.pop("images"), tensors.pop("labels"), shapes.CLASSES, tensors)
    if kind == "shards":
        shards = open_shards(place, resolution, whole, cache)
        classes = shards.classes
        tensors = made_once(file, lambda: _shards(shards, limit_damaged))
    elif kind == "folder":
        tensors = made_once(file, lambda: _folder(place, resolution, limit_damaged))
        tensors["labels"], classes = dense(tensors["labels"], open_folder(place).classes)
    else:
        tensors, classes = made_once(file, lambda: _digits(resolution)), tuple("0123456789")
    # also where another limit was given when the cached file was made
    _check_damaged(name, [text_of(row) for row in tensors.get("damaged", ())], limit_damaged)
    rows = torch.arange(len(tensors["labels"]))
    held_out = torch.zeros(len(rows), dtype=torch.bool) if kind == "shards" else rows % TEST_SHARE == 0
    chosen = held_out == (split == "test")
    return Images(name, identity, tensors["images"][chosen], tensors["labels"][chosen], classes)


def _shapes(resolution: int, split: Split) -> dict[str, torch.Tensor]:
    made = shapes.make(SHAPES_SPLITS[split], resolution, agree=split != "judge")
    return {"images": made.images, "labels": made.labels, **made.facts}


def _digits(resolution: int) -> dict[str, torch.Tensor]:
    from sklearn.datasets import load_digits  # imported here only: it takes a second

    found = load_digits()
    grey = torch.from_numpy(found.images).float()[:, None] / 16
    grey = F.interpolate(grey, (resolution, resolution), mode="bilinear", align_corners=False)
    images = (grey * 255).round().to(torch.uint8).repeat(1, 3, 1, 1)
    return {"images": images, "labels": torch.from_numpy(found.target).long()}


def _folder(place: str, resolution: int, limit_damaged: int) -> dict[str, torch.Tensor]:
    folder = open_folder(place)
    images, labels, damaged = [], [], []
    for note in folder.notes:
        print(f"data=folder:{place}: {note}", file=sys.stderr)
    with stage(f"decodes folder:{place}", len(folder.files), "image") as bar:
        for file, label in folder.files:
            try:
                images.append(decode(read_image(file), resolution))
                labels.append(label)
            except Unreadable as fault:
                damaged.append(f"{file.relative_to(folder.place)}: {fault}")
            bar.update()
    _tell_damaged(f"folder:{place}", damaged, limit_damaged)
    if not images:
        raise UserError(f"data=folder:{place}: no image that can be read: {damaged[0]}")
    if empty := [name for label, name in enumerate(folder.classes) if label not in labels]:
        print(f"data=folder:{place}: {few(empty)}: no image that can be read, so no class", file=sys.stderr)
    return {"images": torch.stack(images), "labels": torch.tensor(labels), **_named(damaged)}


def _shards(shards: Shards, limit_damaged: int) -> dict[str, torch.Tensor]:
    read = shards.read(range(len(shards)))
    _tell_damaged(shards.name, read.damaged, limit_damaged)
    return {"images": read.images[read.valid], "labels": read.labels[read.valid], **_named(read.damaged)}


def _named(damaged: Sequence[str]) -> dict[str, torch.Tensor]:
    """The names of damaged images as they are cached."""
    return {"damaged": texts(damaged)} if damaged else {}


def _check_damaged(name: str, damaged: Sequence[str], limit: int) -> None:
    """Raises `UserError` if there are more than ``limit`` damaged images."""
    if len(damaged) > limit:
        raise UserError(
            f"data={name}: {len(damaged)} damaged images, more than limit_damaged={limit}: {_some(damaged)}"
        )


def _tell_damaged(name: str, damaged: Sequence[str], limit: int) -> None:
    """Names damaged images, which are left out. Raises `UserError` as in `_check_damaged`."""
    _check_damaged(name, damaged, limit)
    if damaged:
        print(f"warning: data={name}: {len(damaged)} damaged images are left out: {_some(damaged)}", file=sys.stderr)


def _some(damaged: Sequence[str]) -> str:
    return "; ".join(damaged[:3]) + (f"; and {len(damaged) - 3} more" if len(damaged) > 3 else "")


__all__ = ["Batch", "Dataset", "Images", "Shards", "digest", "load", "named", "open", "to_float", "to_uint8"]
