"""Pixels are what the file says, for every mode that Pillow reads, in bounded memory."""

import io
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from toy import refusal

from lf.data import prepare
from lf.data.image import Decoding, Unreadable, crop, decode, picture, read_anew

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def grey(content: bytes) -> np.ndarray:
    """The pixels of a grey image."""
    rgb = np.asarray(picture(content))
    assert rgb.dtype == np.uint8 and rgb.ndim == 3
    assert (rgb == rgb[..., :1]).all(), "grey"
    return rgb[..., 0]


SIXTEEN = RAMP.astype(np.uint16) * 257
RAMPS = {
    "16-bit PNG": encoded(Image.fromarray(SIXTEEN)),
    "16-bit TIFF": encoded(Image.fromarray(SIXTEEN), "TIFF"),
    "16-bit TIFF, big-endian": encoded(Image.frombytes("I;16B", (16, 16), SIXTEEN.astype(">u2").tobytes()), "TIFF"),
    "32-bit TIFF of 8 bits": encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF"),
    "32-bit TIFF of 16 bits": encoded(Image.fromarray(SIXTEEN.astype(np.int32)), "TIFF"),
    "32-bit TIFF of 31 bits": encoded(Image.fromarray((RAMP / 255 * (2**31 - 1)).astype(np.int32)), "TIFF"),
    "float TIFF in [0, 1]": encoded(Image.fromarray((RAMP / 255).astype(np.float32)), "TIFF"),
    "float TIFF in [0, 255]": encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"),
    "8-bit PNG": encoded(Image.fromarray(RAMP)),
    "palette": encoded(Image.fromarray(RAMP).convert("P")),
    "opaque LA": encoded(Image.fromarray(RAMP).convert("LA")),
    "opaque RGBA": encoded(Image.fromarray(RAMP).convert("RGBA")),
}


@pytest.mark.parametrize("name", RAMPS)
def test_a_grey_ramp_is_that_ramp_in_8_bits(name: str) -> None:
    assert np.abs(grey(RAMPS[name]).astype(int) - RAMP).max() == 0


@given(values=st.lists(st.integers(0, 65_535), min_size=1, max_size=64))
def test_sixteen_bits_are_rounded_to_eight(values: list[int]) -> None:
    found = grey(encoded(Image.fromarray(np.array([values], np.uint16))))[0]
    assert found.tolist() == [round(value / 257) for value in values]


def hidden(mode: str) -> tuple[bytes, np.ndarray, np.ndarray]:
    """An image with random colours under its transparency: its file, colours and alpha in [0, 1]."""
    rng = np.random.default_rng(0)
    alpha = rng.choice([0, 100, 255], (8, 8)).astype(np.uint8)
    if mode == "LA":
        level = rng.integers(0, 256, (8, 8), np.uint8)
        return encoded(Image.fromarray(np.dstack([level, alpha]))), np.dstack([level] * 3), alpha / 255
    colours = rng.integers(0, 256, (8, 8, 3), np.uint8)
    return encoded(Image.fromarray(np.dstack([colours, alpha]))), colours, alpha / 255


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize(("background", "under"), [("white", 255), ("black", 0)])
def test_transparent_pixels_show_the_background(mode: str, background: str, under: int) -> None:
    content, colours, alpha = hidden(mode)
    expected = colours * alpha[..., None] + under * (1 - alpha[..., None])
    found = np.asarray(picture(content, Decoding(background=background)))
    assert np.abs(found - expected).max() <= 1


def test_a_transparent_colour_of_a_palette_or_of_grey_shows_the_background() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([10, 20, 30, 200, 100, 0])
    palette.putpixel((0, 0), 0)
    for content in (encoded(palette, transparency=0), encoded(palette, "GIF", transparency=0)):
        found = np.asarray(picture(content))
        assert found[0, 0].tolist() == [255, 255, 255] and found[1, 1].tolist() == [200, 100, 0]
    level = encoded(Image.fromarray(RAMP), transparency=7)
    assert grey(level)[0, 7] == 255 and grey(level)[0, 8] == 8


def raw_png(width: int, bits: int, colour: int, row: bytes, transparent: bytes) -> bytes:
    """A PNG of one row, of sample sizes that Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)
    parts = (b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (raw_png(2, 1, 0, b"\x40", struct.pack(">H", 0)), [255, 255]),
        (raw_png(4, 2, 0, b"\x1b", struct.pack(">H", 1)), [0, 255, 170, 255]),
        (raw_png(2, 4, 0, b"\x3a", struct.pack(">H", 3)), [255, 170]),
        (raw_png(2, 8, 0, b"\x03\x0a", struct.pack(">H", 3)), [255, 10]),
        (raw_png(2, 16, 0, struct.pack(">2H", 1000, 30_000), struct.pack(">H", 1000)), [255, 117]),
        (raw_png(2, 8, 2, b"\1\1\1\2\2\2", struct.pack(">3H", 1, 1, 1)), [255, 2]),
        (raw_png(2, 16, 2, struct.pack(">6H", *[999] * 3, *[30_000] * 3), struct.pack(">3H", *[999] * 3)), [255, 117]),
    ],
    ids=["1", "2", "4", "8", "16", "RGB 8", "RGB 16"],
)
def test_the_transparent_value_of_a_png_of_any_depth(content: bytes, expected: list[int]) -> None:
    assert grey(content)[0].tolist() == expected
    assert read_anew(content), "version 0.2 showed the hidden value"


COLOURS = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
CLEAR = COLOURS.copy()
CLEAR.putalpha(Image.fromarray(RAMP[:8, :8]))


@pytest.mark.parametrize(
    ("image", "options", "anew"),
    [
        (COLOURS, {}, False),
        (COLOURS.convert("L"), {}, False),
        (COLOURS.convert("P"), {}, False),
        (COLOURS.convert("RGBA"), {}, False),
        (COLOURS.convert("LA"), {}, False),
        (Image.new("P", (4, 4), 1), {"transparency": 0}, False),
        (CLEAR, {}, True),
        (CLEAR.convert("LA"), {}, True),
        (Image.new("P", (4, 4), 0), {"transparency": 0}, True),
        (Image.fromarray(SIXTEEN), {}, True),
        (Image.new("RGB", (4, 63)), {}, False),
        (Image.new("RGB", (4, 64)), {}, True),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_only_what_is_read_otherwise_changes_the_digest(image: Image.Image, options: dict, anew: bool) -> None:
    """Otherwise the pixels are those of version 0.2, and its caches and runs are found."""
    content = encoded(image, **options)
    assert read_anew(content) == anew
    if not anew:
        assert (np.asarray(picture(content)) == np.asarray(image.convert("RGB"))).all()


MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16")
KINDS = ("PNG", "TIFF", "GIF", "WEBP", "BMP", "JPEG", "PPM", "TGA", "JPEG2000")


@given(mode=st.sampled_from(MODES), kind=st.sampled_from(KINDS), width=st.integers(1, 70), height=st.integers(1, 70),
       size=st.integers(1, 40), seed=st.integers(0, 2**31))  # fmt: skip
def test_every_mode_and_format_is_read(mode: str, kind: str, width: int, height: int, size: int, seed: int) -> None:
    colours = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))
    try:
        image = Image.new(mode, colours.size, 5) if mode in ("LAB", "PA", "I;16") else colours.convert(mode)
        content = encoded(image, kind)
    except (OSError, ValueError, KeyError):
        return  # the format has no such mode
    found = decode(content, size)
    assert found.shape == (3, size, size) and found.dtype == torch.uint8
    if not read_anew(content):  # as version 0.2 read it
        with Image.open(io.BytesIO(content)) as opened:
            before = np.array(old_crop(opened.convert("RGB"), size))
        assert (found.permute(1, 2, 0).numpy() == before).all()


def old_crop(image: Image.Image, size: int) -> Image.Image:
    """`crop` as in version 0.2: the whole image is enlarged, then cropped."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def test_what_is_long_is_judged_by_the_file_as_the_digest_does() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (223, 3556, 3), np.uint8))  # 16:1 once halved
    assert (np.asarray(crop(image, 58)) == np.asarray(old_crop(image, 58))).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_dark_images_of_sixteen_bits_stay_dark(kind: str) -> None:
    assert grey(encoded(Image.fromarray(np.full((4, 4), 200, np.uint16)), kind)).max() == round(200 / 257)


@given(short=st.integers(1, 40), long=st.integers(1, 900), size=st.integers(1, 24), upright=st.booleans())
def test_an_image_of_any_shape_is_cropped_as_before(short: int, long: int, size: int, upright: bool) -> None:
    """Bit for bit; for images much longer than wide nearly: Pillow rounds between the two axes."""
    width, height = (short, long) if upright else (long, short)
    image = Image.fromarray(np.random.default_rng(short).integers(0, 256, (height, width, 3), np.uint8))
    found, before = (np.asarray(cut(image, size)).astype(int) for cut in (crop, old_crop))
    assert found.shape == (size, size, 3)
    if max(image.size) < 16 * min(image.size):
        assert (found == before).all()
    assert np.abs(found - before).mean() <= 1


@pytest.mark.parametrize("shape", [(4, 20_000), (20_000, 4)])
@pytest.mark.parametrize("size", [256, 512])
def test_a_long_image_takes_little_memory(shape: tuple[int, int], size: int) -> None:
    code = f"""
import io, resource
from PIL import Image
from lf.data.image import decode
out = io.BytesIO()
Image.new("RGB", {shape}, (7, 7, 7)).save(out, "PNG")
decode(out.getvalue(), 8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert (decode(out.getvalue(), {size}) == 7).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200_000, "kilobytes"


def test_the_orientation_is_an_option() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    content = encoded(image, exif=exif)
    assert picture(content).size == (9, 6)
    turned = picture(content, Decoding(exif=True))
    assert (np.asarray(turned) == np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))).all()


def test_the_limit_on_size_names_itself_and_can_be_raised(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    content = encoded(Image.new("1", (14_000, 14_000)))  # 24 kB
    with pytest.raises(Unreadable, match="14000 × 14000 pixels, more than max_pixels=178956970"):
        picture(content)
    small = encoded(Image.new("L", (30, 30), 9))
    with pytest.raises(Unreadable, match="30 × 30 pixels, more than max_pixels=899"):
        picture(small, Decoding(max_pixels=899))
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "x.png").write_bytes(small)
    words = [str(tmp_path / "in"), str(tmp_path / "out"), "resolution=8", "workers=1", "limit_damaged=0"]
    assert "more than max_pixels=100" in refusal(prepare.main, [*words, "max_pixels=100"], capsys)
    prepare.main([*words, "max_pixels=900"])
    assert "1 images of 1 classes" in capsys.readouterr().out


def test_a_colour_that_is_none_is_one_line(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(tmp_path), str(tmp_path / "out"), "background=pinkish"]
    assert "background: unknown color specifier: 'pinkish'" in refusal(prepare.main, words, capsys)


@given(content=st.binary(max_size=300))
def test_what_is_no_image_is_unreadable(content: bytes) -> None:
    with pytest.raises(Unreadable):
        picture(content)


@given(name=st.sampled_from(sorted(RAMPS)), at=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_damaged_image_is_read_or_unreadable(name: str, at: int, value: int) -> None:
    content = bytearray(RAMPS[name])
    content[at % len(content)] = value
    try:
        assert decode(bytes(content), 8).shape == (3, 8, 8)
    except Unreadable as fault:
        assert "\n" not in str(fault)
