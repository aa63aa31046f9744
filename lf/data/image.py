"""Decoding and cropping of image files."""

import io

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

CROP = "centre crop 2"  # version of `crop`; part of the data's digest


class Unreadable(Exception):
    """A file cannot be read as an image or a latent; the text says why."""


def picture(content: bytes) -> Image.Image:
    """Decodes an image file as RGB. EXIF orientation is ignored, as is usual for ImageNet.

    Raises:
        Unreadable: the file is damaged, truncated, or no image.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            return opened.convert("RGB")
    except UnidentifiedImageError:
        raise Unreadable("no image, or of an unknown format") from None
    except Exception as fault:  # Pillow's decoders raise many types on damaged files
        raise Unreadable(" ".join(str(fault).split()) or type(fault).__name__) from None


def crop(image: Image.Image, size: int) -> Image.Image:
    """ADM's centre crop to ``size`` × ``size`` pixels (arXiv 2105.05233); its reference statistics use the same crop.

    The image is halved (mean of 2×2 pixels) while its short side stays ≥ ``size``. A bicubic resize, by less than a
    factor of two, brings the short side to ``size``. An image of the right size is not changed.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def decode(content: bytes, size: int) -> Tensor:
    """Decodes and crops an image file: ``(3, size, size)`` uint8. Raises `Unreadable`."""
    return torch.from_numpy(np.array(crop(picture(content), size))).permute(2, 0, 1)
