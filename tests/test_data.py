"""Data: the procedural family keeps its promises, real files load, splits do not overlap."""

from pathlib import Path

import pytest
import torch
import webdataset
from scipy import stats
from torch import Tensor

from lf import data
from lf.data import shapes, to_float, to_uint8
from lf.errors import UserError

KINDS = sorted(shapes.KINDS)


def rows(images: Tensor) -> list[bytes]:
    return sorted(image.numpy().tobytes() for image in images)


def independent(a: Tensor, b: Tensor) -> bool:
    """Whether a chi-square test finds nothing."""
    table = torch.zeros(int(a.max()) + 1, int(b.max()) + 1, dtype=torch.int64)
    table.index_put_((a, b), torch.tensor(1), accumulate=True)
    return stats.chi2_contingency(table.numpy()).pvalue > 1e-3


@pytest.fixture(scope="module")
def many() -> data.Images:
    return shapes.make(range(4000), resolution=8)


def test_an_image_depends_on_its_index_alone() -> None:
    long, short = shapes.make(range(5, 40)), shapes.make(range(20, 30))
    assert short.images.equal(long.images[15:25]) and short.labels.equal(long.labels[15:25])
    assert all(short.facts[name].equal(long.facts[name][15:25]) for name in short.facts)
    assert len(set(rows(long.images))) == len(long)


def test_shape_and_type_of_a_set() -> None:
    made = shapes.make(range(7), resolution=16)
    assert made.images.shape == (7, 3, 16, 16) and made.images.dtype == torch.uint8
    assert made.labels.dtype == torch.int64 and len(made) == 7 and made.resolution == 16


def test_the_two_objects_agree(many: data.Images) -> None:
    for kind in KINDS:
        assert many.facts[f"left.{kind}"].equal(many.facts[f"right.{kind}"])


def test_the_two_objects_need_not_agree(many: data.Images) -> None:
    apart = shapes.make(range(4000), resolution=8, agree=False)
    for kind in KINDS:
        assert independent(apart.facts[f"left.{kind}"], apart.facts[f"right.{kind}"])
    assert not independent(many.facts["left.hue"], many.facts["right.hue"])  # the test can tell


def test_all_kinds_and_classes_are_drawn_alike(many: data.Images) -> None:
    for values, n in [(many.labels, len(many.classes)), *((many.facts[f"left.{k}"], shapes.KINDS[k]) for k in KINDS)]:
        assert stats.chisquare(values.bincount(minlength=n).numpy()).pvalue > 1e-3


def test_the_class_label_does_not_tell_the_objects(many: data.Images) -> None:
    for kind in KINDS:
        assert independent(many.labels, many.facts[f"left.{kind}"])


def test_the_facts_are_to_be_seen_in_the_image() -> None:
    # The ground's hue at the border, and the objects' hue where the image is least like the ground.
    made = shapes.make(range(600), resolution=32)
    x = made.images.float()
    ground = torch.cat([x[..., 0, :], x[..., -1, :]], -1).mean(-1)
    means = torch.stack([ground[made.labels == label].mean(0) for label in range(6)])
    assert (torch.cdist(ground, means).argmin(1) == made.labels).float().mean() > 0.95
    for side, columns in (("left", slice(0, 16)), ("right", slice(16, 32))):
        half = x[..., columns].flatten(2)
        brightest = half.amax(1).topk(12).indices
        colour = half.gather(2, brightest[:, None].expand(-1, 3, -1)).mean(2)
        colour = colour / colour.norm(dim=1, keepdim=True)
        hue = made.facts[f"{side}.hue"]
        means = torch.stack([colour[hue == h].mean(0) for h in range(6)])
        assert (torch.cdist(colour, means).argmin(1) == hue).float().mean() > 0.9


def test_uint8_survives_the_way_to_float_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    x = to_float(every)
    assert x.min() == -1 and x.max() == 1 and to_uint8(x).equal(every)
    assert to_uint8(torch.tensor([-3.0, -1.001, 1.001, 3.0])).tolist() == [0, 0, 255, 255]


def test_digits_load_and_their_splits_together_are_all_of_them(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    train, test = (data.load("digits", 16, split, tmp_path) for split in ("train", "test"))
    assert train.images.shape[1:] == (3, 16, 16) and train.classes == tuple("0123456789")
    assert len(train) + len(test) == len(load_digits().target) and 300 < len(test) < 400
    assert not set(rows(train.images)) & set(rows(test.images))
    counts = train.labels.bincount() + test.labels.bincount()
    assert counts.tolist() == torch.from_numpy(load_digits().target).bincount().tolist()


def test_a_folder_loads_with_its_classes_and_disjoint_splits(store: Path, tmp_path: Path) -> None:
    name = f"folder:{store}/images"
    train, test, judge = (data.load(name, 32, split, tmp_path) for split in ("train", "test", "judge"))
    assert train.classes == tuple(sorted(shapes.CLASSES)) and (len(train), len(test)) == (48, 12)
    # The folder holds the first ten procedural images of each class, as they are.
    made = shapes.make(range(200))
    truth = {
        image.numpy().tobytes(): made.classes[label] for image, label in zip(made.images, made.labels, strict=True)
    }
    for part in (train, test):
        assert [truth[i.numpy().tobytes()] for i in part.images] == [part.classes[label] for label in part.labels]
    assert not set(rows(train.images)) & set(rows(test.images))
    assert judge.images.equal(train.images)


def test_a_folder_is_cut_to_squares_of_the_resolution_asked_for(store: Path, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "one").mkdir()
    Image.new("L", (50, 20), 77).save(tmp_path / "one" / "wide.png")
    Image.new("L", (20, 50), 200).save(tmp_path / "one" / "tall.PNG")
    test = data.load(f"folder:{tmp_path}", 10, "test", tmp_path / "cache")
    assert test.images.shape == (1, 3, 10, 10) and (test.images == 200).all()


def test_the_digest_changes_with_the_data(store: Path, tmp_path: Path) -> None:
    digests = {data.digest(name, r) for name in ("shapes", "digits", f"folder:{store}/images") for r in (16, 32)}
    assert len(digests) == 6


@pytest.mark.parametrize(("name", "said"), [
    ("folder:/no/such/place", "/no/such/place"),
    ("shape", "did you mean 'shapes'"),
    ("digits:3", "digits"),
    ("folder:", "folder:PATH"),
    ("", "asks for your images"),
])  # fmt: skip
def test_what_does_not_exist_is_one_line(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        data.load(name, 16, "train", tmp_path)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_a_folder_without_images_and_a_broken_image_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images"):
        data.digest(f"folder:{tmp_path}", 16)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "broken.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match="broken.png"):
        data.load(f"folder:{tmp_path}", 16, "train", tmp_path / "cache")


def test_tar_shards_hold_the_same_images_as_the_folder(store: Path, tmp_path: Path) -> None:
    folder = data.load(f"folder:{store}/images", 32, "train", tmp_path)
    classes = sorted(child.name for child in (store / "images").iterdir())
    for half in range(2):
        with webdataset.TarWriter(str(tmp_path / f"part-{half}.tar")) as writer:
            for label in range(half * 3, half * 3 + 3):
                for file in sorted((store / "images" / classes[label]).glob("*.png")):
                    key = f"{label}-{file.stem}"
                    writer.write({"__key__": key, "png": file.read_bytes(), "cls": str(label).encode()})
    shards = data.load(f"shards:{tmp_path}/part-{{0..1}}.tar", 32, "train", tmp_path)
    assert shards.images.equal(folder.images) and shards.labels.equal(folder.labels)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file: .*part-0.tar"):
        data.digest(f"shards:{tmp_path}/part-{{0..1}}.tar", 32)
