"""Images by name.

``shapes``; ``digits`` (scikit-learn's handwritten digits); ``folder:PATH`` (one sub-folder per class);
``shards:FOLDER`` or ``shards:PATTERN`` (WebDataset tar files, such as ``shards:/data/train-{000..127}.tar``; see
`lf.data.shards`).

`load` reads one of three splits into memory: ``train``; ``test``, which is held out (the floor of every score is test
against train); and ``judge``, on which the judge of `lf.metrics` is trained (for real images this is ``train``). All
images of shards are training images: their ``test`` split is empty. `open` opens the training images; shards stay on
disk.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch.nn import functional as F

from lf.core.errors import UserError, nearest
from lf.data import shapes
from lf.data.base import Batch, Dataset, Images, to_float, to_uint8
from lf.data.image import CROP, Unreadable, decode
from lf.data.shards import Shards, contents, open_shards
from lf.storage.atomic import sha256
from lf.storage.cache import made_once

Split = Literal["train", "test", "judge"]
SHAPES_SPLITS = {"train": range(20_000), "test": range(100_000, 104_000), "judge": range(200_000, 220_000)}
TEST_SHARE = 5  # every fifth image of a real data set is in the test split


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
        what = f"{CROP} {[(str(file.relative_to(place)), sha256(file)) for file, _ in folder_files(place)]}"
    elif kind == "shards" and place:
        what = f"{CROP} {contents(place, resolution)}"
    elif not name:
        raise UserError("data: this preset needs your images; give data=shards:PATTERN or data=folder:PATH")
    else:
        raise UserError(f"data={name}: unknown; {nearest(kind, ['shapes', 'digits', 'folder:PATH', 'shards:PATTERN'])}")
    return hashlib.sha256(f"{what} {resolution}".encode()).hexdigest()[:16]


def open(name: str, resolution: int, cache: Path) -> Dataset:
    """The training images: shards on disk, or the train split in memory. Arguments and errors as in `load`."""
    kind, _, place = name.partition(":")
    if kind == "shards":
        return open_shards(place, resolution, digest(name, resolution), cache)
    return load(name, resolution, "train", cache)


def load(name: str, resolution: int, split: Split, cache: Path) -> Images:
    """The images of one split, in memory; rendered or decoded once, then read from ``cache``.

    Args:
        name: see the module's docstring.
        resolution: height and width in pixels; images of another size are cropped to it (`lf.data.image.crop`).
        split: see the module's docstring.
        cache: folder of cached images.

    Raises:
        UserError: as in `digest`, or an image cannot be read.
    """
    identity = digest(name, resolution)
    kind, _, place = name.partition(":")
    file = cache / f"{f'shapes-{split}' if kind == 'shapes' else kind}-{identity}.safetensors"
    if split != "train":
        identity += f"-{split}"
    if kind == "shapes":
        tensors = made_once(file, lambda: _shapes(resolution, split))
        return Images(name, identity, tensors.pop("images"), tensors.pop("labels"), shapes.CLASSES, tensors)
    if kind == "shards":
        shards = open_shards(place, resolution, digest(name, resolution), cache)
        classes = shards.classes
        tensors = made_once(file, lambda: _shards(shards))
        chosen = torch.full((len(shards),), split != "test")
    else:
        make: dict[str, Callable[[str, int], dict[str, torch.Tensor]]] = {"digits": _digits, "folder": _folder}
        tensors = made_once(file, lambda: make[kind](place, resolution))
        classes = folder_classes(place) if kind == "folder" else tuple("0123456789")
        chosen = (torch.arange(len(tensors["labels"])) % TEST_SHARE == 0) == (split == "test")
    return Images(name, identity, tensors["images"][chosen], tensors["labels"][chosen], classes)


def _shapes(resolution: int, split: Split) -> dict[str, torch.Tensor]:
    made = shapes.make(SHAPES_SPLITS[split], resolution, agree=split != "judge")
    return {"images": made.images, "labels": made.labels, **made.facts}


def _digits(_: str, resolution: int) -> dict[str, torch.Tensor]:
    from sklearn.datasets import load_digits  # imported here only: it takes a second

    found = load_digits()
    grey = torch.from_numpy(found.images).float()[:, None] / 16
    grey = F.interpolate(grey, (resolution, resolution), mode="bilinear", align_corners=False)
    images = (grey * 255).round().to(torch.uint8).repeat(1, 3, 1, 1)
    return {"images": images, "labels": torch.from_numpy(found.target).long()}


def _folder(place: str, resolution: int) -> dict[str, torch.Tensor]:
    files = folder_files(place)
    images = []
    for file, _ in files:
        try:
            images.append(decode(file.read_bytes(), resolution))
        except Unreadable as fault:
            raise UserError(f"data=folder:{place}: cannot read the image {file}: {fault}") from None
    return {"images": torch.stack(images), "labels": torch.tensor([label for _, label in files])}


def _shards(shards: Shards) -> dict[str, torch.Tensor]:
    read = shards.read(range(len(shards)))
    if read.damaged:
        raise UserError(f"data={shards.name}: {len(read.damaged)} images cannot be read, such as {read.damaged[0]}")
    return {"images": read.images, "labels": read.labels}


def folder_classes(place: str) -> tuple[str, ...]:
    """Names of the sub-folders. Raises `UserError` if there is no such folder."""
    folder = Path(place)
    if not folder.is_dir():
        raise UserError(f"data=folder:{place}: no such folder; it must hold one sub-folder of images per class")
    return tuple(sorted(child.name for child in folder.iterdir() if child.is_dir()))


def folder_files(place: str) -> list[tuple[Path, int]]:
    """Every image file of a folder, with the index of its class. Raises `UserError` if there is none."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    found = [
        (file, label)
        for label, name in enumerate(folder_classes(place))
        for file in sorted((Path(place) / name).rglob("*"))
        if file.suffix.lower() in IMG_EXTENSIONS
    ]
    if not found:
        raise UserError(f"data=folder:{place}: no images; it must hold one sub-folder of images per class")
    return found


__all__ = ["Batch", "Dataset", "Images", "Shards", "digest", "load", "open", "to_float", "to_uint8"]
