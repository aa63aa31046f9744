"""Tar shards by others: which members are images, what their labels are, and what is wrong with which."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packed import picture, png
from PIL import Image
from toy import refusal

from lf import data
from lf.core.errors import UserError
from lf.data import prepare, shards
from lf.data.members import renumbered


def tar(file: Path, members: dict[str, bytes | str]) -> str:
    with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as packed:
        for name, content in members.items():
            content = content.encode() if isinstance(content, str) else content
            header = tarfile.TarInfo(name)
            header.size = len(content)
            packed.addfile(header, io.BytesIO(content))
    return str(file)


def image(number: int, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    picture(number).save(out, kind)
    return out.getvalue()


def labels(name: str) -> tuple[tuple[str, ...], list[int]]:
    _, samples, classes = shards.find(name)
    return classes, samples["label"].tolist()


def samples(suffix: str, values: list[Any]) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for number, value in enumerate(values):
        found[f"{number:09d}.jpg"] = image(number, "JPEG")
        found[f"{number:09d}.txt"] = "a photo of something"
        if value is not None:
            found[f"{number:09d}.{suffix}"] = json.dumps(value) if suffix == "json" else str(value)
    return found


@pytest.mark.parametrize(
    ("suffix", "values", "classes", "expected"),
    [
        ("cls", [0, 1, 2, 0], ("0", "1", "2"), [0, 1, 2, 0]),
        ("cls", [1, 2, 10], ("1", "2", "10"), [0, 1, 2]),
        ("cls", [7, 0, 7], ("0", "7"), [1, 0, 1]),
        ("cls", [10**9, 3], ("3", "1000000000"), [1, 0]),
        ("cls", [10**40, 3], ("3", str(10**40)), [1, 0]),
        ("cls", ["dog", "cat", "dog"], ("cat", "dog"), [1, 0, 1]),
        ("json", [{"label": 4}, {"label": 2}], ("2", "4"), [1, 0]),
        ("json", [{"caption": "x", "class": "b"}, {"caption": "y", "class": "a"}], ("a", "b"), [1, 0]),
        ("cls", [-1, 10, 9], ("-1", "9", "10"), [0, 2, 1]),
        ("json", [{"label": 3.0}, {"label": 2}], ("2", "3"), [1, 0]),
        ("json", [{"caption": "x"}, {"caption": "y"}], ("all",), [0, 0]),
        ("json", [["label"], "label"], ("all",), [0, 0]),
        ("json", [5, None], ("all",), [0, 0]),
        ("cls", [None, None], ("all",), [0, 0]),
    ],
    ids=str,
)
def test_labels_in_every_form(suffix: str, values: list[Any], classes: tuple, expected: list, tmp_path: Path) -> None:
    """img2dataset's shards are ``KEY.jpg``, ``.txt`` and ``.json``, without ``.cls``."""
    name = tar(tmp_path / "a.tar", samples(suffix, values))
    assert labels(name) == (classes, expected)
    opened = data.open(f"shards:{name}", 8, tmp_path / "cache")
    assert opened.classes == classes and opened.read(range(len(values))).valid.all()


def test_renumbering_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = tar(tmp_path / "a.tar", samples("cls", [1, 2, 3]))
    for _ in range(2):
        data.open(f"shards:{name}", 8, tmp_path / "cache")
    said = capsys.readouterr().err
    assert said == f"data=shards:{name}: its classes 1, 2, 3 are numbered 0 to 2\n"
    tar(tmp_path / "b.tar", samples("cls", [0, 1, 2]))
    data.open(f"shards:{tmp_path}/b.tar", 8, tmp_path / "cache")
    assert not capsys.readouterr().err


@given(values=st.lists(st.integers(0, 10**12), min_size=1, max_size=12))
def test_any_labels_are_numbered_densely(values: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    content = image(0)
    members: dict[str, bytes | str] = {}
    for number, value in enumerate(values):
        members |= {f"{number}.png": content, f"{number}.cls": str(value)}
    classes, found = labels(tar(tmp_path_factory.mktemp("tar") / "a.tar", members))
    assert [int(classes[label]) for label in found] == values
    assert sorted(set(found)) == list(range(len(classes))) and list(map(int, classes)) == sorted(set(values))
    assert renumbered(classes) == (sorted(set(values)) != list(range(len(classes))))


KEYS = st.text("ab1._/ ", min_size=1, max_size=6)
SUFFIXES = st.sampled_from(["png", "PNG", "jpg", "cls", "json", "txt", "2.jpg", "md", "tiff", ""])


@given(names=st.lists(st.tuples(KEYS, SUFFIXES), max_size=8), texts=st.lists(st.text(max_size=8), min_size=8))
def test_any_layout_is_read_or_one_line(
    names: list[tuple[str, str]], texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    members: dict[str, bytes | str] = {}
    for (key, suffix), text in zip(names, texts, strict=False):
        members[f"{key}.{suffix}"] = image(1) if suffix.lower().endswith(("png", "jpg", "tiff")) else text
    name = tar(tmp_path_factory.mktemp("tar") / "a.tar", members)
    try:
        classes, found = labels(name)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert len(found) and set(found) == set(range(len(classes)))


def test_suffixes_in_any_case_and_with_dots(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {"README": "hello", "LICENSE.txt": "MIT", "._a.jpg": b"\0\5\x16\7"}
    for key, kind in (("a.JPG", "JPEG"), ("b.jpeg", "JPEG"), ("c.WebP", "WEBP"), ("d.2.png", "PNG"), ("e.tif", "TIFF")):
        members |= {key: image(ord(key[0]), kind), f"{key[0]}.cls": "0"}
    members |= {"f.jpg": image(6, "JPEG"), "f.depth.png": png(Image.new("L", (3, 3))), "f.cls": "0"}
    opened = data.open(f"shards:{tar(tmp_path / 'a.tar', members)}", 8, tmp_path / "cache")
    assert len(opened) == 6 and opened.read(range(6)).valid.all()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"k.cls": "1"}, "k: has a .cls, but no image; allowed: .jpg, .jpeg, .png"),
        ({"k.png": b"x", "k.cls": ""}, "k: its .cls must be the number or the name of a class"),
        ({"k.png": b"x", "k.json": "{"}, "k: its .json cannot be read"),
        (
            {"k.png": b"x", "k.json": '{"label": [1]}'},
            "'label' in its .json must be a whole number or a name, not [",
        ),
        (
            {"k.png": b"x", "k.json": '{"label": true}'},
            "k: 'label' in its .json must be a whole number or a name",
        ),
        (
            {"k.png": b"x", "k.json": '{"class": "\\ud800"}'},
            "k: 'class' in its .json must be the number or the name of a",
        ),
        ({"k.png": b"x", "k.cls": "9" * 5000}, "k: its .cls must be the number or the name of a class, of 1 to 200"),
        ({"k.1.png": b"x", "k.2.png": b"y"}, "k: which is its image, .1.png or .2.png?"),
        ({"a.png": b"x", "a.cls": "1", "k.png": b"y"}, "k: has no label (a .cls, or a label in a .json), but other"),
        ({"notes.txt": "x"}, "no images in these shards"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said_of_which_member(members: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        labels(tar(tmp_path / "a.tar", members))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_members_of_a_sample_need_not_be_neighbours(tmp_path: Path) -> None:
    """As ``tar`` writes a folder, whose order is any; a key may also come again, as in joined tar files."""
    members = {f"{key}.png": image(number) for number, key in enumerate("abc")} | {
        "c.cls": "3",
        "a.cls": "1",
        "b.cls": "2",
    }
    assert labels(tar(tmp_path / "a.tar", members)) == (("1", "2", "3"), [0, 1, 2])
    for number in range(2):
        tar(tmp_path / "b.tar", {"a.png": image(1), "a.cls": "0", "b.png": image(2), "b.cls": "1"})
        with (tmp_path / "c.tar").open("ab") as joined:  # without the end mark of the first
            joined.write((tmp_path / "b.tar").read_bytes()[: None if number else 8 * 512])
    assert labels(f"{tmp_path}/c.tar")[1] == [0, 1, 0, 1]
    twice = tar(tmp_path / "d.tar", {"a.png": image(1), "a.PNG": image(2)})
    with pytest.raises(UserError, match="a: has two members .png"):
        labels(twice)


def test_names_that_are_no_utf8_are_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as packed:
        for name, content in (("café.png", image(1)), ("café.cls", b"1")):
            header = tarfile.TarInfo(name)
            header.size = len(content)
            packed.addfile(header, io.BytesIO(content))
    opened = data.open(f"shards:{tmp_path}/a.tar", 8, tmp_path / "cache")
    assert opened.classes == ("1",) and opened.where(0) == "a.tar:caf\ufffd"


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("asked", ["a.tar.{}", ".", "*.tar.{}"])
def test_compressed_tars_say_what_to_do(suffix: str, asked: str, tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", samples("cls", [1]))
    with tarfile.open(tmp_path / f"a.tar.{suffix}", f"w:{suffix}") as packed:
        packed.add(tmp_path / "a.tar", "a.tar")
    (tmp_path / "a.tar").unlink()
    with pytest.raises(UserError, match=f"a.tar.{suffix}: is compressed; unpack it first: (gzip|bzip2|xz) -d /"):
        labels(f"{tmp_path}/{asked.format(suffix)}")


def test_patterns_that_are_wrong_are_one_line(tmp_path: Path) -> None:
    for name in (f"{tmp_path}/a{{0..", "~nosuchuser/a.tar"):
        with pytest.raises(UserError, match="Unbalanced braces|no such file"):
            labels(name)
    os.rename(tar(tmp_path / "a.tar", samples("cls", [1])), tmp_path / "A.TAR")
    assert len(labels(str(tmp_path))[1]) == 1


def test_prepared_shards_without_images_of_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As version 0.2 made them of a folder with an empty one; a selection of the files counts, too."""
    for name in ("ant", "bee", "cat"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "x.ppm").write_bytes(b"P6 8 8 255\n" + bytes(192))
    prepare.main([f"{tmp_path}/in", f"{tmp_path}/out", "resolution=8", "workers=1", "shard_size=1"])
    whole, part = f"shards:{tmp_path}/out", f"shards:{tmp_path}/out/train-{{000000,000002}}.tar"
    before = data.digest(whole, 8)
    some = data.open(part, 8, tmp_path / "cache")
    assert len(some.classes) == 2 and sorted(some.read([0, 1]).labels.tolist()) == [0, 1]
    file = tmp_path / "out" / "index.json"
    index = json.loads(file.read_text())
    file.write_text(json.dumps(index | {"classes": [*index["classes"], "eel"]}))
    assert data.open(whole, 8, tmp_path / "cache").classes == ("ant", "bee", "cat")
    assert data.digest(whole, 8) != before and "eel: no image in these shards" in capsys.readouterr().err


def test_debris_is_left_out_and_a_dotted_image_has_its_own_label(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {"a/._0.jpg": b"\0\5", "__MACOSX/a/0.jpg": b"x", ".ipynb_checkpoints/0.jpg": b"x"}
    members |= {"a/0.jpg": image(0, "JPEG"), "a/0.cls": "cat", "b.2.png": image(1), "b.2.cls": "dog"}
    assert labels(tar(tmp_path / "a.tar", members)) == (("cat", "dog"), [0, 1])


def test_a_pattern_of_the_shell_and_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in range(3):
        tar(tmp_path / f"x-{part}.tar", samples("cls", [part]))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (f"{tmp_path}/*.tar", f"{tmp_path}/x-[0-2].tar", "~/x-{0..2}.tar", "~/x-?.tar", "~"):
        assert len(labels(name)[1]) == 3, name
    with pytest.raises(UserError, match="no such file"):
        labels(f"{tmp_path}/y-*.tar")


def test_preparing_takes_the_label_from_a_named_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = [{"label": 0, "breed": "pug"}, {"label": 0, "breed": "corgi"}]
    words = [tar(tmp_path / "a.tar", samples("json", values)), str(tmp_path / "out"), "resolution=8", "workers=1"]
    assert "its .json has no 'bread'; allowed: breed, label; did you mean 'breed'?" in refusal(
        prepare.main, [*words, "label_key=bread"], capsys
    )
    prepare.main([*words, "label_key=breed"])
    assert data.open(f"shards:{tmp_path}/out", 8, tmp_path / "cache").classes == ("corgi", "pug")


def tar_digest(values: list[int], place: Path) -> str:
    """Of a tar file whose bytes depend on no library."""
    ppm = b"P6 8 8 255\n" + bytes(range(192))
    members: dict[str, bytes | str] = {}
    for number, value in enumerate(values):
        members |= {f"{number}.png": ppm, f"{number}.cls": str(value)}
    return data.digest(f"shards:{tar(place / 'a.tar', members)}", 8)


def test_a_plain_tar_keeps_its_digest_and_a_renumbered_one_has_another(tmp_path: Path) -> None:
    """As commit 35c8ef2 computed them, which trained a network of 8 classes on the second."""
    assert tar_digest([0, 1, 2, 0], tmp_path) == "993802d3833d5139"
    assert tar_digest([0, 7, 0, 7], tmp_path) != "cbc5aad5dadd9d82"
