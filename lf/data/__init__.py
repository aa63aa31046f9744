"""Images by name, held in memory as uint8.

``shapes``; ``digits`` (scikit-learn's handwritten digits); ``folder:PATH`` (one sub-folder a class); ``shards:PATTERN``
(WebDataset tar files such as ``shards:/data/train-{000..127}.tar``, members ``KEY.jpg`` or ``.png`` and ``KEY.cls``).

Each set has three disjoint splits: ``train``; ``test``, which no network sees (the floor of every score is test
against train); and ``judge``, on which the judge of `lf.metrics` is trained (for real images this is ``train``).
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional as F

from lf.data import shapes
from lf.data.base import Batch, Dataset, Images, to_float, to_uint8
from lf.errors import UserError, nearest
from lf.files import made_once

Split = Literal["train", "test", "judge"]
SHAPES_SPLITS = {"train": range(20_000), "test": range(100_000, 104_000), "judge": range(200_000, 220_000)}
TEST_SHARE = 5  # every fifth image of a real data set is for the test


def digest(name: str, resolution: int) -> str:
    """Identity of a data set: equal digest, equal images. Of files it hashes names and contents.

    Raises:
        UserError: unknown data set or missing path.
    """
    kind, _, place = name.partition(":")
    if kind == "shapes" and not place:
        what = f"shapes {shapes.VERSION} {SHAPES_SPLITS}"
    elif kind == "digits" and not place:
        what = "scikit-learn digits 1"
    elif kind == "folder" and place:
        what = repr([(str(file.relative_to(place)), _content(file)) for file, _ in _files(place)])
    elif kind == "shards" and place:
        what = repr([_content(file) for file in _shard_files(place)])
    elif not name:
        raise UserError("data: this preset asks for your images; give data=shards:PATTERN or data=folder:PATH")
    else:
        raise UserError(f"data={name}: unknown; {nearest(kind, ['shapes', 'digits', 'folder:PATH', 'shards:PATTERN'])}")
    return hashlib.sha256(f"{what} {resolution}".encode()).hexdigest()[:16]


def load(name: str, resolution: int, split: Split, cache: Path) -> Images:
    """The images of one split; rendered or decoded once, then kept under ``cache``.

    Args:
        name: see the module's docstring.
        resolution: height and width in pixels; other images are resized on the short side and centre-cropped.
        split: see the module's docstring.
        cache: folder for what was made.
    """
    identity = digest(name, resolution)
    if name == "shapes":
        tensors = made_once(cache / f"shapes-{split}-{identity}.safetensors", lambda: _shapes(resolution, split))
        return Images(name, identity, tensors.pop("images"), tensors.pop("labels"), shapes.CLASSES, tensors)
    kind, _, place = name.partition(":")
    make: Callable[[str, int], dict[str, torch.Tensor]] = {"digits": _digits, "folder": _folder, "shards": _shards}[
        kind
    ]
    tensors = made_once(cache / f"{kind}-{identity}.safetensors", lambda: make(place, resolution))
    chosen = (torch.arange(len(tensors["labels"])) % TEST_SHARE == 0) == (split == "test")
    classes = _classes(place) if kind == "folder" else tuple(map(str, range(int(tensors["labels"].max()) + 1)))
    return Images(name, identity, tensors["images"][chosen], tensors["labels"][chosen], classes)


def _shapes(resolution: int, split: Split) -> dict[str, torch.Tensor]:
    made = shapes.make(SHAPES_SPLITS[split], resolution, agree=split != "judge")
    return {"images": made.images, "labels": made.labels, **made.facts}


def _digits(_: str, resolution: int) -> dict[str, torch.Tensor]:
    from sklearn.datasets import load_digits  # a second to import, and only here

    found = load_digits()
    grey = torch.from_numpy(found.images).float()[:, None] / 16
    grey = F.interpolate(grey, (resolution, resolution), mode="bilinear", align_corners=False)
    images = (grey * 255).round().to(torch.uint8).repeat(1, 3, 1, 1)
    return {"images": images, "labels": torch.from_numpy(found.target).long()}


def _folder(place: str, resolution: int) -> dict[str, torch.Tensor]:
    files = _files(place)
    images = [_decode(file.read_bytes(), resolution, str(file)) for file, _ in files]
    return {"images": torch.stack(images), "labels": torch.tensor([label for _, label in files])}


def _shards(place: str, resolution: int) -> dict[str, torch.Tensor]:
    images, labels = [], []
    for member in _members(place):
        kind = next((k for k in ("jpg", "jpeg", "png") if k in member), None)
        if kind is None or not member.get("cls", b"").strip().isdigit():
            raise UserError(f"data=shards:{place}: {member['__key__']}: needs a .jpg or .png and a .cls with a number")
        images.append(_decode(member[kind], resolution, member["__key__"]))
        labels.append(int(member["cls"]))
    if not images:
        raise UserError(f"data=shards:{place}: no images in these shards")
    return {"images": torch.stack(images), "labels": torch.tensor(labels)}


def _members(place: str) -> Iterator[dict[str, Any]]:
    from webdataset.tariterators import group_by_keys, tar_file_expander

    for file in _shard_files(place):
        with file.open("rb") as stream:
            yield from group_by_keys(tar_file_expander([{"url": str(file), "stream": stream}]))


def _decode(content: bytes, resolution: int, where: str) -> torch.Tensor:
    """Image file → ``(3, resolution, resolution)`` uint8, the short side resized and the centre cropped."""
    from PIL import Image, UnidentifiedImageError
    from torchvision.transforms.v2.functional import center_crop, resize

    try:
        with Image.open(io.BytesIO(content)) as opened:
            pixels = center_crop(resize(opened.convert("RGB"), [resolution]), [resolution])
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"data: cannot read the image {where}: {error}") from None
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


def _content(file: Path) -> str:
    return _hash(file, file.stat().st_size, file.stat().st_mtime_ns)


@cache
def _hash(file: Path, size: int, mtime: int) -> str:
    """SHA-256 of a file, read once a process as long as size and time stay."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _shard_files(pattern: str) -> list[Path]:
    """The tar files that a pattern with braces stands for."""
    import braceexpand

    files = [Path(url) for url in braceexpand.braceexpand(pattern)]
    for file in files:
        if not file.is_file():
            raise UserError(f"data=shards:{pattern}: no such file: {file}")
    return files


def _classes(place: str) -> tuple[str, ...]:
    folder = Path(place)
    if not folder.is_dir():
        raise UserError(f"data=folder:{place}: no such folder; it must hold one sub-folder of images a class")
    return tuple(sorted(child.name for child in folder.iterdir() if child.is_dir()))


def _files(place: str) -> list[tuple[Path, int]]:
    """Every image file of a folder with its class."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    found = [
        (file, label)
        for label, name in enumerate(_classes(place))
        for file in sorted((Path(place) / name).rglob("*"))
        if file.suffix.lower() in IMG_EXTENSIONS
    ]
    if not found:
        raise UserError(f"data=folder:{place}: no images; it must hold one sub-folder of images a class")
    return found


__all__ = ["Batch", "Dataset", "Images", "digest", "load", "to_float", "to_uint8"]
