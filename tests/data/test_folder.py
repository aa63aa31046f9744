"""Folders of images as people have them: what is a class, what is an image, what is said, and what stays the same."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from PIL import Image
from toy import PLAIN, WORDS, refusal, training

from lf import data
from lf import train as command
from lf.core.errors import UserError
from lf.core.parsing import overrides
from lf.data import prepare
from lf.data.folder import open_folder
from lf.runs import training_run
from lf.train import train


def ppm(shade: int) -> bytes:
    return b"P6 8 8 255\n" + bytes((shade * 5 + i) % 256 for i in range(192))


def write(place: Path, *names: str) -> Path:
    """Writes an image for each name."""
    for number, name in enumerate(names):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        if (place / name).suffix in (".gif", ".png", ".webp", ".avif", ".jfif", ".JPG"):
            kind = {".jfif": "JPEG", ".JPG": "JPEG"}.get((place / name).suffix)
            Image.new("RGB", (8, 8), (number * 9 % 256, 40, 200)).save(place / name, kind)
        else:
            (place / name).write_bytes(ppm(number))
    return place


BASE = [f"{name}/{n}.ppm" for name in ("cat", "dog") for n in range(4)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return write(tmp_path / "images", *BASE)


def counts(place: Path) -> dict[str, int]:
    found = open_folder(str(place))
    labels = [label for _, label in found.files]
    return {name: labels.count(label) for label, name in enumerate(found.classes)}


PLAIN_DIGEST = "5f82f3bdd0e0aa7d"


def test_a_plain_folder_keeps_its_digest(place: Path) -> None:
    """As commit 35c8ef2 computed it: its runs and caches are found."""
    assert data.digest(f"folder:{place}", 8) == PLAIN_DIGEST
    assert open_folder(str(place)).notes == []


@pytest.mark.parametrize(
    ("image", "same"),
    [
        (Image.new("RGBA", (9, 9), (1, 2, 3, 255)), True),
        (Image.new("RGBA", (9, 9), (1, 2, 3, 254)), False),
        (Image.new("I;16", (9, 9), 300), False),
    ],
    ids=["opaque", "transparent", "16 bits"],
)
def test_a_folder_of_other_pixels_has_another_digest(image: Image.Image, same: bool, tmp_path: Path) -> None:
    file = tmp_path / "cat" / "x.png"
    file.parent.mkdir()
    image.save(file)
    of_0_2 = f"centre crop 2 {[('cat/x.png', hashlib.sha256(file.read_bytes()).hexdigest())]} 8"
    assert (data.digest(f"folder:{tmp_path}", 8) == hashlib.sha256(of_0_2.encode()).hexdigest()[:16]) == same


@pytest.mark.parametrize(
    ("more", "classes", "note", "same"),
    [
        ([".ipynb_checkpoints/x.ppm"], {"cat": 4, "dog": 4}, "", False),
        (["__MACOSX/cat/x.ppm"], {"cat": 4, "dog": 4}, "", False),
        (["cat/._0.ppm", "cat/.thumbs/x.ppm", "cat/Thumbs.db", "cat/notes.txt"], {"cat": 4, "dog": 4}, "", True),
        (["ant/notes.txt"], {"cat": 4, "dog": 4}, "ant: no image in it, so no class", False),
        (["ant/x.gif", "bee/x.jfif", "eel/x.JPG", "fox/x.avif"],
         {"ant": 1, "bee": 1, "cat": 4, "dog": 4, "eel": 1, "fox": 1}, "", False),
        (["loose.ppm"], {"cat": 4, "dog": 4}, "1 images beside the classes, such as loose.ppm, are left out", True),
        (["cat/wild/x.ppm"], {"cat": 5, "dog": 4}, "folders below them, such as cat/wild, are no classes", False),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_classes_are_the_folders_with_images(
    more: list[str],
    classes: dict[str, int],
    note: str,
    same: bool,
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = data.digest(f"folder:{place}", 8)
    write(place, *more)
    assert counts(place) == classes
    images = data.load(f"folder:{place}", 8, "train", tmp_path / "cache")
    assert images.classes == tuple(classes) and set(images.labels.tolist()) <= set(range(len(classes)))
    said = capsys.readouterr().err
    assert note in said and bool(note) == bool(said)
    data.load(f"folder:{place}", 8, "train", tmp_path / "cache")
    assert not capsys.readouterr().err, "said once"
    found = data.digest(f"folder:{place}", 8)
    assert (found == before) == same, "another digest where version 0.2 had other labels or images"


def test_empty_class_folders_are_trained_on_never_and_sampled_never(place: Path, tmp_path: Path) -> None:
    (place / "ant").mkdir()
    config = training(f"data=folder:{place}", "resolution=8", "steps=2", f"runtime.runs={tmp_path}/runs")
    assert train(config)["classes"] == ["cat", "dog"]


def test_linked_folders_are_read_and_circles_end(place: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "a.ppm", "b.ppm")
    (place / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (place / "cat" / "again").symlink_to(place / "cat")
    (place / "eel").symlink_to(tmp_path / "elsewhere")
    assert counts(place) == {"cat": 6, "dog": 4, "eel": 2}


@pytest.mark.parametrize("dropout", [0.1, 1])
def test_a_flat_folder_is_one_class_or_none(dropout: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "flat", *(f"{n}.ppm" for n in range(6)))
    words = [f"data=folder:{tmp_path}/flat", "resolution=8", "steps=2", f"label_dropout={dropout}"]
    config = training(*words, f"runtime.runs={tmp_path}/runs")
    assert train(config)["classes"] == ["all"]
    assert "no sub-folder holds images, so its 6 images are one class" in capsys.readouterr().err
    (tmp_path / "flat").rename(tmp_path / "moved")
    words[0] = f"data=folder:{tmp_path}/moved"
    assert training_run(training(*words, f"runtime.runs={tmp_path}/runs")).state == "done"


@pytest.mark.parametrize("fault", ["dangling", "pipe", "empty", "html", "cut"])
def test_damaged_images_have_one_rule(
    fault: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Left out and named up to ``limit_damaged``, in training as in preparing; refused above it, all at once."""
    write(place, "cat/b.png", "cat/c.png")
    for name in ("b.png", "c.png"):
        file = place / "cat" / name
        content = {"empty": b"", "html": b"<html>", "cut": file.read_bytes()[:40]}.get(fault, b"")
        file.unlink()
        if fault == "dangling":
            file.symlink_to(tmp_path / "missing")
        elif fault == "pipe":
            os.mkfifo(file)
        else:
            file.write_bytes(content)
    words = [*WORDS, *PLAIN, "steps=2", "resolution=8", f"data=folder:{place}", f"runtime.runs={tmp_path}/runs"]
    said = refusal(command.main, words, capsys)
    assert "2 damaged images, more than limit_damaged=0: cat/b.png: " in said and "; cat/c.png: " in said
    command.main([*words, "runtime.limit_damaged=2"])
    assert "2 damaged images are left out: cat/b.png" in capsys.readouterr().err
    prepare.main([str(place), f"{tmp_path}/out", "resolution=8", "limit_damaged=2", "workers=1"])
    assert "8 images of 2 classes, 2 damaged left out" in capsys.readouterr().out


def test_a_class_of_damaged_images_alone_is_no_class(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(place, "ant/x.png", "bee/y.png")
    (place / "ant" / "x.png").write_bytes(b"")
    images = data.load(f"folder:{place}", 8, "train", tmp_path, limit_damaged=5)
    assert images.classes == ("bee", "cat", "dog") and set(images.labels.tolist()) <= {0, 1, 2}
    assert "ant: no image that can be read, so no class" in capsys.readouterr().err
    prepare.main([str(place), f"{tmp_path}/out", "resolution=8", "workers=1"])
    assert "9 images of 3 classes, 1 damaged left out" in capsys.readouterr().out
    for _ in range(2):
        opened = data.open(f"shards:{tmp_path}/out", 8, tmp_path / "cache")
    assert opened.classes == images.classes and sorted(set(opened.read(range(9)).labels.tolist())) == [0, 1, 2]
    assert capsys.readouterr().err.count("ant: no image in these shards, so no class") == 1


def test_the_limit_holds_for_images_that_are_cached(place: Path, tmp_path: Path) -> None:
    (place / "cat" / "x.png").write_bytes(b"")
    assert len(data.load(f"folder:{place}", 8, "train", tmp_path, limit_damaged=1)) == 6
    with pytest.raises(UserError, match="1 damaged images, more than limit_damaged=0: cat/x.png: no image"):
        data.load(f"folder:{place}", 8, "train", tmp_path)
    (place / "dog" / "y.png").write_bytes(b"")
    with pytest.raises(UserError, match="2 damaged images, more than limit_damaged=1"):
        data.load(f"folder:{place}", 8, "train", tmp_path, limit_damaged=1)


@pytest.mark.parametrize(
    ("made", "name", "expected"),
    [
        (["in/cat/x.ppm"], "in", "folder:in"),
        (["in/x.tar", "in/cat/x.ppm"], "in", "shards:in"),
        (["in/x.tar.gz"], "in", "shards:in"),
        (["a.tar"], "a.tar", "shards:a.tar"),
        ([], "/no/train-{0..3}.tar", "shards:/no/train-{0..3}.tar"),
        ([], "nosuch", "nosuch"),
        (["shapes/cat/x.ppm"], "shapes", "shapes"),
        (["in/cat/x.ppm"], "folder:in", "folder:in"),
        ([], "", ""),
    ],
)
def test_a_path_alone_is_taken_for_what_is_there(
    made: list[str], name: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write(tmp_path, *made)
    monkeypatch.chdir(tmp_path)
    assert data.named(name) == expected
    assert training(f"data={name or 'shapes'}").data == (expected or "shapes")
    said = capsys.readouterr().err
    assert said in ("", f"data={name}: taken for data={expected}\n") and bool(said) <= (name != expected)


def test_no_images_say_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "x.heic").touch()
    with pytest.raises(UserError, match=r"no images \(only .heic\); .* suffixes of images: jpg"):
        open_folder(str(tmp_path))


@pytest.mark.parametrize(
    "word",
    ["folder:a #1", "folder:a: b", "folder:#1", "it's", "folder:~/imgs", "a\\b", "folder:ä €", "folder:a:", "a\t#b",
     "~", "*.tar", "&x", "!x", "%x", "@x", "`x", "- x", "? x", "|", "folder:${x}", "folder:a ", "a\x85b", "#1", "a, b"],
)  # fmt: skip
def test_words_are_what_was_typed(word: str) -> None:
    assert overrides([f"data={word}"]) == {"data": word}


def test_the_home_folder_is_expanded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place.parent))
    assert data.digest("folder:~/images", 8) == data.digest(f"folder:{place}", 8)


def test_a_repaired_image_is_prepared_again(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(place), str(tmp_path / "out"), "resolution=8", "workers=1", "shard_size=3"]
    (place / "cat" / "0.ppm").write_bytes(b"P6")
    prepare.main(words)
    first = capsys.readouterr().out
    assert "7 images of 2 classes, 1 damaged left out" in first
    prepare.main(words)
    assert "done already" in capsys.readouterr().out
    for option in ("background=black", "exif=true"):
        assert f"holds shards of {option.split('=')[0]}=its default, not" in refusal(
            prepare.main, [*words, option], capsys
        )
    (place / "cat" / "0.ppm").write_bytes(ppm(77))
    prepare.main(words)
    out, err = capsys.readouterr()
    assert "files of the source have changed; it is written anew" in err
    assert "done: " in out and "8 images of 2 classes, 0 damaged" in out and out.split()[-1] != first.split()[-1]
    index = tmp_path / "out" / "index.json"
    made = json.loads(index.read_text())
    del made["stamp"]  # as version 0.2 wrote it
    index.write_text(json.dumps(made))
    os.utime(place / "cat" / "0.ppm", (1, 1))
    prepare.main(words)
    assert "done already" in capsys.readouterr().out
