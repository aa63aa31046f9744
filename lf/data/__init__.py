"""Images by name: ``shapes``, ``digits`` (scikit-learn's handwritten digits) or ``folder:PATH``.

Each set has three disjoint splits: ``train``; ``test``, which no network sees (the floor of every score is test
against train); and ``judge``, on which the judge of `lf.metrics` is trained (for real images this is ``train``).
"""

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from lf.data import shapes
from lf.data.base import Images, to_float, to_uint8
from lf.errors import UserError, nearest
from lf.files import made_once

Split = Literal["train", "test", "judge"]
SHAPES_SPLITS = {"train": range(20_000), "test": range(100_000, 104_000), "judge": range(200_000, 220_000)}
TEST_SHARE = 5  # every fifth image of a real data set is for the test


def digest(name: str, resolution: int) -> str:
    """Identity of a data set, cheap enough for planning a sweep: equal digest, equal images.

    Raises:
        UserError: unknown data set or missing path.
    """
    kind, _, place = name.partition(":")
    if kind == "shapes" and not place:
        what = f"shapes {shapes.VERSION} {SHAPES_SPLITS}"
    elif kind == "digits" and not place:
        what = "scikit-learn digits 1"
    elif kind == "folder" and place:
        what = repr([(str(f.relative_to(place)), f.stat().st_size, f.stat().st_mtime_ns) for f, _ in _files(place)])
    else:
        raise UserError(f"data={name}: unknown; {nearest(kind, ['shapes', 'digits', 'folder:PATH'])}")
    return hashlib.sha256(f"{what} {resolution}".encode()).hexdigest()[:16]


def load(name: str, resolution: int, split: Split, cache: Path) -> Images:
    """The images of one split; rendered or decoded once, then kept under ``cache``.

    Args:
        name: ``shapes``, ``digits`` or ``folder:PATH`` (one sub-folder a class).
        resolution: height and width in pixels.
        split: see the module's docstring.
        cache: folder for what was made.
    """
    identity = digest(name, resolution)
    if name == "shapes":
        tensors = made_once(cache / f"shapes-{split}-{identity}.safetensors", lambda: _shapes(resolution, split))
        return Images(name, identity, tensors.pop("images"), tensors.pop("labels"), shapes.CLASSES, tensors)
    make = _digits if name == "digits" else _folder
    tensors = made_once(cache / f"{name.partition(':')[0]}-{identity}.safetensors", lambda: make(name, resolution))
    chosen = (torch.arange(len(tensors["labels"])) % TEST_SHARE == 0) == (split == "test")
    classes = tuple(map(str, range(10))) if name == "digits" else _classes(name.partition(":")[2])
    return Images(name, identity, tensors["images"][chosen], tensors["labels"][chosen], classes)


def _shapes(resolution: int, split: Split) -> dict[str, torch.Tensor]:
    made = shapes.make(SHAPES_SPLITS[split], resolution, agree=split != "judge")
    return {"images": made.images, "labels": made.labels, **made.facts}


def _digits(name: str, resolution: int) -> dict[str, torch.Tensor]:
    from sklearn.datasets import load_digits  # a second to import, and only here

    found = load_digits()
    grey = torch.from_numpy(found.images).float()[:, None] / 16
    grey = F.interpolate(grey, (resolution, resolution), mode="bilinear", align_corners=False)
    images = (grey * 255).round().to(torch.uint8).repeat(1, 3, 1, 1)
    return {"images": images, "labels": torch.from_numpy(found.target).long()}


def _folder(name: str, resolution: int) -> dict[str, torch.Tensor]:
    from PIL import Image, UnidentifiedImageError
    from torchvision.transforms.v2.functional import center_crop, resize

    files = _files(name.partition(":")[2])
    images = torch.empty(len(files), 3, resolution, resolution, dtype=torch.uint8)
    for row, (file, _) in enumerate(files):
        try:
            with Image.open(file) as opened:
                pixels = center_crop(resize(opened.convert("RGB"), [resolution]), [resolution])
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f"data={name}: cannot read {file}: {error}") from None
        images[row] = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
    return {"images": images, "labels": torch.tensor([label for _, label in files])}


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


__all__ = ["Images", "digest", "load", "to_float", "to_uint8"]
