"""Preparing shards: the right pixels, every image once, the same bytes after a kill, damage counted and named."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from packed import picture, pixels
from PIL import Image
from toy import files, refusal
from webdataset.tariterators import group_by_keys, tar_file_expander

from lf import data
from lf.core.errors import UserError
from lf.data import prepare, tars
from lf.data.image import crop, decode
from lf.data.prepare import Preparing

SIZE = 16
WORDS = [f"resolution={SIZE}", "shard_size=7", "workers=2"]
CONFIG = Preparing(resolution=SIZE, shard_size=7, workers=2)


def expected(file: Path) -> Image.Image:
    """The crop by hand: halve while both halves are big enough, shrink to the short side, take the middle."""
    image = Image.open(file).convert("RGB")
    while image.width // SIZE >= 2 and image.height // SIZE >= 2:
        image = image.resize((image.width // 2, image.height // 2), resample=Image.Resampling.BOX)
    short = min(image.width, image.height)
    image = image.resize([round(side * (SIZE / short)) for side in image.size], resample=Image.Resampling.BICUBIC)
    x, y = (image.width - SIZE) // 2, (image.height - SIZE) // 2
    return Image.fromarray(np.asarray(image)[y : y + SIZE, x : x + SIZE])


def test_every_image_is_in_the_shards_once_cut_to_size_with_its_class(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert prepare.prepare(str(source), out, CONFIG)
    shards = data.open(f"shards:{out}", SIZE, tmp_path / "cache")
    assert shards.classes == ("a", "b", "c", "d") and len(shards) == 40
    listed = sorted(file for file in source.rglob("*.*") if file.is_file())
    listed.sort(key=lambda file: file.relative_to(source).parts[0])  # by class, then by name
    keys = [int(shards.where(row).partition(":")[2]) for row in range(40)]
    assert sorted(keys) == list(range(40)) and keys != sorted(keys)
    read = shards.read(range(40))
    assert read.images.equal(pixels([expected(listed[key]) for key in keys])) and read.valid.all()
    assert [shards.classes[label] for label in read.labels] == [listed[k].relative_to(source).parts[0] for k in keys]
    # Any WebDataset reader finds the same.
    with ExitStack() as opened:
        streams = [
            {"url": name, "stream": opened.enter_context((out / name).open("rb"))}
            for name in (f"train-{shard:06d}.tar" for shard in range(6))
        ]
        found = list(group_by_keys(tar_file_expander(streams)))
    assert pixels([Image.open(io.BytesIO(sample["png"])) for sample in found]).equal(read.images)
    assert [int(sample["cls"]) for sample in found] == read.labels.tolist()
    assert [int(sample["__key__"]) for sample in found] == keys


@pytest.mark.parametrize(("width", "height", "size", "halvings", "resized", "corner"), [
    (500, 375, 256, 0, (341, 256), (42, 0)),
    (375, 501, 256, 0, (256, 342), (0, 43)),
    (300, 200, 64, 1, (96, 64), (16, 0)),
    (401, 263, 64, 2, (98, 64), (17, 0)),
    (511, 511, 128, 1, (128, 128), (0, 0)),
    (512, 512, 128, 2, (128, 128), (0, 0)),
    (20, 31, 40, 0, (40, 62), (0, 11)),
    (33, 33, 33, 0, (33, 33), (0, 0)),
])  # fmt: skip
def test_the_crop_halves_then_resizes_then_takes_the_middle(
    width: int, height: int, size: int, halvings: int, resized: tuple[int, int], corner: tuple[int, int]
) -> None:
    image = picture(1, width, height)
    step = image
    for _ in range(halvings):
        step = step.resize((step.width // 2, step.height // 2), Image.Resampling.BOX)
    whole = np.asarray(step.resize(resized, Image.Resampling.BICUBIC))
    x, y = corner
    cut = crop(image, size)
    assert cut.size == (size, size) and (np.asarray(cut) == whole[y : y + size, x : x + size]).all()


def test_halving_is_the_mean_of_two_by_two_pixels_and_a_fitting_image_is_left_as_it_is() -> None:
    image = picture(2, 32, 32)
    mean = np.asarray(image).astype(float).reshape(16, 2, 16, 2, 3).mean((1, 3))
    assert np.abs(np.asarray(crop(image, 16)) - mean).max() <= 1  # rounded along each axis
    assert (np.asarray(crop(image, 32)) == np.asarray(image)).all()


def test_equal_input_makes_equal_bytes_whatever_the_workers_and_is_made_once(source: Path, tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("three", 3)):
        assert prepare.prepare(f"folder:{source}", tmp_path / name, CONFIG.model_copy(update={"workers": workers}))
    one, three = ({k: v for k, (_, v) in files(tmp_path / name).items()} for name in ("one", "three"))
    assert one == three and set(one) == {"index.json", "samples.safetensors"} | {f"train-{i:06d}.tar" for i in range(6)}
    assert data.digest(f"shards:{tmp_path}/one", SIZE) == data.digest(f"shards:{tmp_path}/three", SIZE)
    for entry in json.loads(one["index.json"])["shards"]:
        assert entry["sha256"] == hashlib.sha256(one[entry["name"]]).hexdigest()
    before = files(tmp_path / "one")
    assert not prepare.prepare(str(source), tmp_path / "one", CONFIG) and files(tmp_path / "one") == before
    with tarfile.open(tmp_path / "one" / "train-000000.tar") as opened:
        assert {(m.mtime, m.uid, m.gid, m.uname) for m in opened} == {(0, 0, 0, "lf")}


def test_jpg_is_smaller_and_close(source: Path, tmp_path: Path) -> None:
    for kind in ("png", "jpg"):
        prepare.prepare(str(source), tmp_path / kind, CONFIG.model_copy(update={"format": kind}))
    png, jpg = (data.open(f"shards:{tmp_path}/{kind}", SIZE, tmp_path).read(range(40)) for kind in ("png", "jpg"))
    assert png.labels.equal(jpg.labels) and not png.images.equal(jpg.images)
    assert (png.images.float() - jpg.images.float()).abs().mean() < 6


@pytest.fixture
def hurt(source: Path, tmp_path: Path) -> Path:
    """The source with three broken files more."""
    place = tmp_path / "hurt"
    for name, (_, content) in files(source).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    (place / "a" / "no.png").write_bytes(b"no image")
    (place / "b" / "empty.jpg").write_bytes(b"")
    (place / "d" / "cut.jpg").write_bytes((source / "d" / "deep" / "07.x.jpg").read_bytes()[:500])
    return place


def test_damaged_images_are_left_out_and_named_up_to_a_limit_and_nothing_is_lost(
    hurt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    said = refusal(prepare.main, [str(hurt), str(out), *WORDS, "limit_damaged=2"], capsys)
    assert "3 damaged images, more than limit_damaged=2" in said and "to resume" in said
    done = {name: file for name, file in files(out).items() if name.endswith(".tar")}
    assert done and not (out / "index.json").exists()
    prepare.main([str(hurt), str(out), *WORDS, "limit_damaged=3"])
    assert "40 images of 4 classes, 3 damaged left out" in capsys.readouterr().out
    assert all(files(out)[name] == file for name, file in done.items())
    index = tars.index(out)
    named = sorted(fault for entry in index["shards"] for fault in entry["damaged"])
    assert [fault.split(": ")[0] for fault in named] == ["a/no.png", "b/empty.jpg", "d/cut.jpg"]
    prepare.prepare(str(hurt), tmp_path / "at once", CONFIG)
    assert {k: v for k, (_, v) in files(out).items()} == {k: v for k, (_, v) in files(tmp_path / "at once").items()}
    shards = data.open(f"shards:{out}", SIZE, tmp_path / "cache")
    assert len(shards) == 40 and shards.read(range(40)).valid.all()


def test_tar_shards_can_be_prepared_again_at_another_size(source: Path, tmp_path: Path) -> None:
    prepare.prepare(str(source), tmp_path / "big", CONFIG)
    assert prepare.prepare(str(tmp_path / "big"), tmp_path / "small", Preparing(resolution=8, workers=1))
    big, small = (data.open(f"shards:{tmp_path}/{n}", r, tmp_path / "cache") for n, r in (("big", 16), ("small", 8)))
    assert small.classes == big.classes == ("a", "b", "c", "d")
    rows = [int(small.where(row).partition(":")[2]) for row in range(40)]
    of_big = big.read(rows)
    cut = pixels([crop(Image.fromarray(image.permute(1, 2, 0).numpy()), 8) for image in of_big.images])
    assert small.read(range(40)).images.equal(cut) and small.read(range(40)).labels.equal(of_big.labels)


def test_a_data_set_of_torchvision_is_prepared_with_its_classes(tmp_path: Path) -> None:
    # MNIST's files as they are published, but few: torchvision looks for their names and wants no check sum.
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    digits, labels = rng.integers(0, 256, (12, 28, 28), dtype=np.uint8), np.arange(12, dtype=np.uint8) % 10
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 12, 28, 28) + digits.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 12) + labels.tobytes())
    root = tmp_path / "root"
    prepare.prepare("torchvision:MNIST", tmp_path / "out", Preparing(resolution=28, workers=1, root=str(root)))
    shards = data.open(f"shards:{tmp_path}/out", 28, tmp_path / "cache")
    rows = [int(shards.where(row).partition(":")[2]) for row in range(12)]
    read = shards.read(range(12))
    assert read.images.equal(torch.from_numpy(digits)[rows][:, None].expand(-1, 3, -1, -1))
    assert read.labels.tolist() == labels[rows].tolist() and shards.classes[3] == "3 - three"


@pytest.mark.parametrize(("place", "words", "said"), [
    ("{source}", ["resolution=32"], "resolution=16, not 32"),
    ("{source}", ["format=jpg"], "format=png, not jpg"),
    ("{source}/a/..", ["shard_size=9"], "shard_size=7, not 9"),
    ("{other}", [], "images="),
    ("{source}", ["resoluton=16"], "did you mean 'resolution'?"),
    ("{source}", ["workers=0"], "prepare.workers"),
    ("{source}", ["preset=shapes"], "prepare.preset: unknown key"),
    ("/no/such/{{0..1}}.tar", [], "no such file: /no/such/0.tar"),
    ("folder:/no/such", [], "no such folder"),
    ("torchvision:CIFAR11", [], "did you mean 'CIFAR10"),
    ("torchvision:CocoDetection", [], "one class each"),
])  # fmt: skip
def test_what_does_not_fit_is_one_line_and_changes_nothing(
    place: str, words: list[str], said: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other" / "one").mkdir(parents=True)
    picture(0).save(tmp_path / "other" / "one" / "0.png")
    out = tmp_path / "out"
    prepare.prepare(str(source), out, CONFIG)
    before = files(out)
    named = place.format(source=source, other=tmp_path / "other")
    given = [named, str(out), f"resolution={SIZE}", "shard_size=7", f"root={tmp_path}", *words]
    assert said in refusal(prepare.main, given, capsys)
    assert files(out) == before


def test_what_is_not_ours_or_in_use_or_not_said_is_one_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "usage: python -m lf.data.prepare SOURCE OUT" in refusal(prepare.main, [str(source)], capsys)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    assert "is not empty" in refusal(prepare.main, [str(source), str(tmp_path / "full")], capsys)
    assert "cannot be written" in refusal(prepare.main, [str(source), "/proc/none"], capsys)
    settings = {"images": "same"}
    with tars.Folder(tmp_path / "busy", settings).held(), pytest.raises(UserError, match="another process"):
        tars.Folder(tmp_path / "busy", settings).held()


def test_help_lists_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        prepare.main(["--help"])
    out = capsys.readouterr().out
    assert not stop.value.code and all(key in out for key in Preparing.model_fields)


def test_what_decodes_is_what_was_encoded() -> None:
    image, out = picture(5, 24, 24), io.BytesIO()
    image.save(out, "PNG")
    assert decode(out.getvalue(), 24).equal(pixels([image])[0])
    for content in (b"", b"x" * 100, out.getvalue()[:300], gzip.compress(out.getvalue())):
        with pytest.raises(prepare.Unreadable) as caught:
            decode(content, 24)
        assert str(caught.value) and "\n" not in str(caught.value) and " at 0x" not in str(caught.value)
