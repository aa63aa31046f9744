"""Data: the procedural family keeps its promises, real files load, splits do not overlap."""

import gzip
import shutil
import tarfile
from functools import partial
from pathlib import Path

import pytest
import torch
import webdataset
from packed import packed, picture, pixels
from scipy import stats
from torch import Tensor

from lf import data
from lf.core.errors import UserError
from lf.data import shapes, tars, to_float, to_uint8
from lf.data.image import crop
from lf.data.prepare import Preparing, prepare

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
    ("", "needs your images"),
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


def test_tar_shards_of_others_hold_what_was_packed(tmp_path: Path) -> None:
    name = f"shards:{packed(tmp_path, [4, 3])}"
    truth, labels = pixels([picture(number) for number in range(7)]), [number % 3 for number in range(7)]
    for shards in (data.open(name, 8, tmp_path / "cache"), data.open(f"shards:{tmp_path}", 8, tmp_path / "cache")):
        assert isinstance(shards, data.Shards) and len(shards) == 7 and shards.resolution == 8
        assert shards.digest == data.digest(name, 8) and shards.classes == ("0", "1", "2")
        rows, flip = [5, 0, 5], torch.tensor([True, False, False])
        read = shards.read(rows, flip)
        assert read.images.equal(torch.stack([truth[5].flip(-1), truth[0], truth[5]]))
        assert read.labels.tolist() == [labels[row] for row in rows] and read.valid.all()
        assert read.damaged == () and read.latents == ()
    # In memory all of them are for training; there is no test split.
    train, test, judge = (data.load(name, 8, split, tmp_path / "cache") for split in ("train", "test", "judge"))
    assert train.images.equal(truth) and train.labels.tolist() == labels and train.digest == shards.digest
    assert judge.images.equal(truth) and test.images.shape == (0, 3, 8, 8) and len(test.labels) == 0


def test_what_is_trained_on_is_the_train_split_where_it_fits_into_memory(tmp_path: Path) -> None:
    opened, loaded = data.open("digits", 8, tmp_path), data.load("digits", 8, "train", tmp_path)
    assert isinstance(opened, data.Images) and opened.images.equal(loaded.images) and opened.digest == loaded.digest


def test_tar_shards_of_another_size_are_cut_to_the_resolution_asked_for(tmp_path: Path) -> None:
    pattern = packed(tmp_path, [2], size=20)
    read = data.open(f"shards:{pattern}", 8, tmp_path / "cache").read([0, 1])
    assert read.images.equal(pixels([crop(picture(number, 20, 20), 8) for number in range(2)]))


def test_headers_are_read_once_as_long_as_the_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"shards:{packed(tmp_path, [2, 2])}"
    first = data.open(name, 8, tmp_path / "cache").read(range(4))
    with monkeypatch.context() as patch:
        patch.setattr(tars, "members", lambda file: pytest.fail("headers read again"))
        assert data.open(name, 8, tmp_path / "cache").read(range(4)).images.equal(first.images)
    old = data.digest(name, 8)
    packed(tmp_path, [3, 2])
    assert len(data.open(name, 8, tmp_path / "cache")) == 5 and data.digest(name, 8) != old


@pytest.fixture(scope="module")
def prepared(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `store` as shards of 25, 25 and 10 images."""
    out = tmp_path_factory.mktemp("prepared") / "out"
    prepare(f"folder:{store}/images", out, Preparing(resolution=32, shard_size=25, workers=1))
    return out


def test_prepared_shards_are_read_from_their_index(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for function in ("members", "sha256"):
        monkeypatch.setattr(tars, function, lambda *_: pytest.fail("the tar files were read"))
    whole = data.open(f"shards:{prepared}", 32, tmp_path)
    assert whole.classes == tuple(sorted(shapes.CLASSES)) and len(whole) == 60
    assert whole.digest == data.open(f"shards:{prepared}/train-{{000000..000002}}.tar", 32, tmp_path).digest
    some = data.open(f"shards:{prepared}/train-00000{{2,1}}.tar", 32, tmp_path)
    assert len(some) == 35 and some.digest != whole.digest and some.classes == whole.classes
    rows = [*range(50, 60), *range(25, 50)]
    assert some.read(range(35)).images.equal(whole.read(rows).images)
    assert some.read(range(35)).labels.equal(whole.read(rows).labels)
    assert not list(tmp_path.iterdir())


def test_prepared_shards_hold_the_folder(prepared: Path, store: Path, tmp_path: Path) -> None:
    train, test = (data.load(f"folder:{store}/images", 32, split, tmp_path) for split in ("train", "test"))
    shards = data.load(f"shards:{prepared}", 32, "train", tmp_path)
    both = rows(torch.cat([train.images, test.images]))
    assert rows(shards.images) == both
    label = {
        i.numpy().tobytes(): int(k) for part in (train, test) for i, k in zip(part.images, part.labels, strict=True)
    }
    assert [label[image.numpy().tobytes()] for image in shards.images] == shards.labels.tolist()


def tar_with(folder: Path, **members: bytes) -> str:
    """A tar file with one sample."""
    with webdataset.TarWriter(str(folder / "part-0.tar"), encoder=False) as writer:
        writer.write({"__key__": "k", **members})
    return f"{folder}/part-0.tar"


@pytest.mark.parametrize("split", ["digest", "open"])
def test_a_missing_shard_is_named(split: str, tmp_path: Path) -> None:
    ask = data.digest if split == "digest" else partial(data.open, cache=tmp_path)
    with pytest.raises(UserError, match="no such file: .*part-0.tar"):
        ask(f"shards:{tmp_path}/part-{{0..1}}.tar", 32)


def test_shards_that_do_not_fit_are_one_line(prepared: Path, tmp_path: Path) -> None:
    def refused(name: str, resolution: int = 32) -> str:
        with pytest.raises(UserError) as caught:
            data.open(f"shards:{name}", resolution, tmp_path / "cache")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no tar files" in refused(str(tmp_path))
    assert "was prepared at resolution=32" in refused(str(prepared), 16)
    assert "k: has a .cls, but no image; allowed: .jpg" in refused(tar_with(tmp_path, cls=b"1"))
    (tmp_path / "part-0.tar").write_bytes(b"no tar file at all" * 100)
    assert "cannot be read as a tar file" in refused(f"{tmp_path}/part-0.tar")
    whole = Path(packed(tmp_path / "cut", [3]).replace("{000..000}", "000"))
    content = whole.read_bytes()
    whole.write_bytes(content[:2000])
    assert "cannot be read as a tar file" in refused(str(whole))
    whole.write_bytes(gzip.compress(content))
    assert f"is compressed; unpack it first: gzip -d {whole}" in refused(str(whole))
    with tarfile.open(whole, "w"):
        pass
    assert "no images in these shards" in refused(str(whole))
    shutil.copytree(prepared, tmp_path / "copy")
    with (tmp_path / "copy" / "train-000001.tar").open("ab") as stream:
        stream.write(b"more")
    assert "train-000001.tar: differs from its entry in the index" in refused(f"{tmp_path}/copy")
    (tmp_path / "copy" / "train-000001.tar").unlink()
    assert "no such file" in refused(f"{tmp_path}/copy")
    broken = tar_with(tmp_path, png=b"x", cls=b"1")
    with pytest.raises(UserError, match="1 damaged images, more than limit_damaged=0: part-0.tar:k: no image"):
        data.load(f"shards:{broken}", 8, "train", tmp_path / "cache")
