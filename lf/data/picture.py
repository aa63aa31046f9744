"""One image file → a square of pixels."""

import io

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

CROP = "centre crop 2"  # version of `crop`: part of the digest of what it cut


class Unreadable(Exception):
    """A file that cannot be read as what it should be; the text is the fault."""


def picture(content: bytes) -> Image.Image:
    """An image file as RGB. Its EXIF orientation is not looked at, as in the field's preparation of ImageNet.

    Raises:
        Unreadable: broken, cut short, or no image.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            return opened.convert("RGB")
    except UnidentifiedImageError:
        raise Unreadable("no image, or of no known format") from None
    except Exception as fault:  # Pillow's decoders raise all kinds on broken files
        raise Unreadable(" ".join(str(fault).split()) or type(fault).__name__) from None


def crop(image: Image.Image, size: int) -> Image.Image:
    """The centre square, ``size`` × ``size``, as in ADM (arXiv 2105.05233), whose reference statistics use it.

    The image is halved (mean of 2×2 pixels) as long as its short side stays ≥ ``size``, so that the bicubic resize to a
    short side of ``size`` shrinks by less than two. An image of that size already is left as it is.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def decode(content: bytes, size: int) -> Tensor:
    """An image file → ``(3, size, size)`` uint8. Raises `Unreadable`."""
    return torch.from_numpy(np.array(crop(picture(content), size))).permute(2, 0, 1)
