"""Decoding and cropping of image files: the right 8-bit RGB values for every mode that Pillow reads."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError
from torch import Tensor

CROP = "centre crop 2"  # version of `crop`; part of the data's digest
SUFFIXES = (
    "jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "gif", "jfif", "jpe", "avif", "jp2", "pbm", "tga",
)  # fmt: skip
"""Suffixes of image files, in lower case; files with others are no images."""
LONG = 16
"""From this ratio of the sides on, an image is cropped before it is enlarged: else it may need gigabytes."""
READ_BEFORE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")
"""Modes that version 0.2 read as they are meant, where they are opaque."""


class Unreadable(Exception):
    """A file cannot be read as an image or a latent; the text says why."""


class Decoding(NamedTuple):
    """How image files are decoded.

    Attributes:
        background: colour under transparent pixels, as CSS names it.
        exif: whether the image is turned as its EXIF orientation says; it is not for ImageNet.
        max_pixels: largest number of pixels that is decoded; a small file can hold an image that fills the memory.
    """

    background: str = "white"
    exif: bool = False
    max_pixels: int = 178_956_970  # Pillow's own limit


USUAL = Decoding()


def picture(content: bytes, how: Decoding = USUAL) -> Image.Image:
    """Decodes an image file as 8-bit RGB; of a file with several images, the first.

    16-bit grey is scaled to 8 bits. Integers of more bits are scaled by the smallest of 8, 16 and 31 bits that holds
    the largest value; floating point numbers lie in [0, 1], or are taken as integers. Transparent pixels show
    ``background``.

    Raises:
        Unreadable: the file is damaged, truncated, too large, or no image.
    """
    try:
        with _unlimited(), Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > how.max_pixels:
                raise Unreadable(f"{opened.width} × {opened.height} pixels, more than max_pixels={how.max_pixels}")
            _scale_transparency(opened)
            image = ImageOps.exif_transpose(opened) if how.exif else opened
            return _rgb(image, how.background, opened.format in ("PNG", "PPM"))
    except UnidentifiedImageError:
        raise Unreadable("no image, or of an unknown format") from None
    except Unreadable:
        raise
    except Exception as fault:  # Pillow's decoders raise many types on damaged files
        raise Unreadable(" ".join(str(fault).split()) or type(fault).__name__) from None


@contextmanager
def _unlimited() -> Iterator[None]:
    """Turns off Pillow's own limit, and its warnings on files that are not quite right."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _rgb(image: Image.Image, background: str, sixteen: bool) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _grey(image, sixteen)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        turned = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert turned is not None
        return turned
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = _rgba(image)
    if _opaque(image):
        return image.convert("RGB")
    under = Image.new("RGBA", image.size, (*ImageColor.getrgb(background)[:3], 255))
    return Image.alpha_composite(under, image).convert("RGB")


def _grey(image: Image.Image, sixteen: bool) -> Image.Image:
    """A grey image of more than 8 bits in 8 bits, with alpha if a PNG calls one of its values transparent."""
    values = np.asarray(image)
    grey, clear = Image.fromarray(_eight_bits(values, sixteen)), image.info.get("transparency")
    if clear is None:
        return grey
    return Image.merge("LA", (grey, Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))))


def _rgba(image: Image.Image) -> Image.Image:
    """An image with transparency as RGBA."""
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def _opaque(rgba: Image.Image) -> bool:
    return rgba.getchannel("A").getextrema() == (255, 255)


def _scale_transparency(opened: Image.Image) -> None:
    """Scales the transparent value of a PNG as Pillow scales its pixels, of 2, 4 or 16 bits, to 8 bits."""
    clear, bits = opened.info.get("transparency"), ""
    if clear is None:
        return
    if opened.format == "PNG" and (tile := getattr(opened, "tile", None)):
        bits = tile[0][3]
    if bits in ("L;2", "L;4"):
        opened.info["transparency"] = clear * {"L;2": 85, "L;4": 17}[bits]
    elif bits == "RGB;16B":
        opened.info["transparency"] = tuple(value >> 8 for value in clear)


def _eight_bits(values: np.ndarray, sixteen: bool) -> np.ndarray:
    """Grey values as uint8, scaled as `picture` says; ``sixteen``: they have 16 bits, whatever they are."""
    x = values.astype(np.float64)
    if not np.isfinite(x).all():
        raise Unreadable("pixels that are not finite")
    largest = x.max(initial=0)
    if sixteen or values.dtype.kind == "u" and values.dtype.itemsize == 2:
        full = 65_535.0
    elif np.issubdtype(values.dtype, np.floating) and largest <= 1:
        full = 1.0
    else:
        full = next((full for full in (255.0, 65_535.0) if largest <= full), 2.0**31 - 1)
    return (x.clip(0, full) * (255 / full)).round().astype(np.uint8)


def read_anew(content: bytes) -> bool:
    """Whether version 0.2 read other pixels from this file: the digest of a data set says so.

    These are images of grey with more than 8 bits, with transparent pixels, in LAB, or much longer than wide.
    """
    try:
        with _unlimited(), Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > USUAL.max_pixels:
                return False  # which it refused
            if max(opened.size) >= LONG * min(opened.size) or opened.mode not in READ_BEFORE:
                return True
            _scale_transparency(opened)
            return opened.has_transparency_data and not _opaque(_rgba(opened))
    except Exception:  # noqa: BLE001 (a damaged file was and is unreadable)
        return False


def crop(image: Image.Image, size: int) -> Image.Image:
    """ADM's centre crop to ``size`` × ``size`` pixels (arXiv 2105.05233); its reference statistics use the same crop.

    The image is halved (mean of 2×2 pixels) while its short side stays ≥ ``size``. A bicubic resize, by less than a
    factor of two, brings the short side to ``size``. An image of the right size is not changed.
    """
    long = max(image.size) >= LONG * min(image.size)
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    left, top = (width - size) // 2, (height - size) // 2
    if long:  # the same, but only the pixels that stay are made
        across, down = image.width / width, image.height / height
        box = (left * across, top * down, (left + size) * across, (top + size) * down)
        return image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    return image.crop((left, top, left + size, top + size))


def decode(content: bytes, size: int) -> Tensor:
    """Decodes and crops an image file: ``(3, size, size)`` uint8. Raises `Unreadable`."""
    return torch.from_numpy(np.array(crop(picture(content), size))).permute(2, 0, 1)
