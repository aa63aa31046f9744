"""Parquet files as the Hugging Face hub ships them: every image once with its class, and what is wrong in one line."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packed import picture, pixels, png
from toy import files, refusal

from lf import data
from lf.data import prepare, tars

PETS = ["cat", "dog", "newt", "owl"]
WORDS = ["resolution=8", "workers=1", "shard_size=4"]


def ship(
    file: Path, images: Sequence[bytes | None], labels: Any = None, names: Sequence[str] = (), **columns: Any
) -> None:
    """Writes images as `datasets` does; ``names`` make the labels a ``ClassLabel``."""
    boxed = pa.array([{"bytes": image, "path": f"{n}.png"} for n, image in enumerate(images)],
                     pa.struct([("bytes", pa.binary()), ("path", pa.string())]))  # fmt: skip
    table = {columns.pop("image_key", "image"): boxed, **({} if labels is None else {"label": labels}), **columns}
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if names:
        features["label"] = {"names": list(names), "_type": "ClassLabel"}
    file.parent.mkdir(parents=True, exist_ok=True)
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table(table).replace_schema_metadata(told), file, row_group_size=5)


def pictures(numbers: Sequence[int]) -> list[bytes]:
    return [png(picture(n)) for n in numbers]


def prepared(source: str, out: Path, *words: str) -> tuple[list[int], list[str], tuple[str, ...]]:
    """Prepares shards; the number of each image, in the source's order, the name of its class, and all classes."""
    prepare.main([source, str(out), *WORDS, *words])
    shards = data.open(f"shards:{out}", 8, out.parent / "cache")
    read = shards.read(range(len(shards)))
    known = {image.numpy().tobytes(): n for n, image in enumerate(pixels([picture(n) for n in range(20)]))}
    order = sorted(range(len(shards)), key=lambda row: shards.where(row).partition(":")[2])
    found = [known[read.images[row].numpy().tobytes()] for row in order]
    return found, [shards.classes[int(read.labels[row])] for row in order], shards.classes


@pytest.mark.parametrize(
    ("labels", "names", "told", "classes"),
    [
        ([1, 0, 3, 1, 0, 3], PETS, "dog cat owl dog cat owl", ("cat", "dog", "owl")),  # no newt
        ([5, 9, 10, 5, 9, 10], (), "5 9 10 5 9 10", ("5", "9", "10")),
        ([2.0, 0.0, 2.0, 0.0, 2.0, 2.0], (), "2 0 2 0 2 2", ("0", "2")),
        (["b", "a", "b ", "a", "c", "c"], (), "b a b a c c", ("a", "b", "c")),
        ([True, False] * 3, (), "1 0 1 0 1 0", ("0", "1")),
        (pa.array(["b", "a"] * 3).dictionary_encode(), (), "b a b a b a", ("a", "b")),
        ([-1] * 6, PETS, "all all all all all all", ("all",)),  # so the hub marks images without labels
        (None, (), "all all all all all all", ("all",)),
    ],
)
def test_images_have_the_classes_that_the_labels_say(
    labels: Any, names: list[str], told: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    ship(tmp_path / "some.parquet", pictures(range(6)), labels, names)
    found = prepared(f"parquet:{tmp_path / 'some.parquet'}", tmp_path / "out")
    assert found == ([*range(6)], told.split(), classes)


def test_files_of_a_folder_or_a_pattern_are_one_data_set_in_the_order_of_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = tmp_path / "hub" / "data"
    for part, numbers in enumerate((range(7), range(7, 12))):
        ship(hub / f"train-{part:05d}-of-00002.parquet", pictures(numbers), [n % 4 for n in numbers], PETS)
    classes = [PETS[n % 4] for n in range(12)]
    monkeypatch.setenv("HOME", str(tmp_path))
    for number, source in enumerate((f"parquet:{tmp_path}/hub", "parquet:~/hub/data/train-*", str(hub))):
        assert prepared(source, tmp_path / str(number)) == ([*range(12)], classes, tuple(PETS))
    one, two = ({k: v for k, (_, v) in files(tmp_path / n).items() if k.endswith("tar")} for n in "02")
    assert one == two and len(one) == 3
    assert "its classes cat, dog, newt, owl are numbered 0 to 3" in capsys.readouterr().err
    assert not list(tmp_path.rglob("unpacked*"))
    ship(hub / "test-00000-of-00001.parquet", pictures([12]), [0], PETS)
    said = refusal(prepare.main, [f"parquet:{tmp_path}/hub", str(tmp_path / "out"), *WORDS], capsys)
    assert "several splits, test, train" in said
    assert prepared(said.split("'")[1], tmp_path / "again")[0] == [*range(12)]


def test_damaged_and_missing_images_are_left_out_and_named_and_a_rerun_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "some.parquet", tmp_path / "out"
    ship(file, [*pictures(range(6)), None, b"no image"], [0, 1, 2, 3] * 2, PETS)
    words = [f"parquet:{file}", str(out), *WORDS]
    assert "2 damaged images, more than limit_damaged=1" in refusal(prepare.main, [*words, "limit_damaged=1"], capsys)
    assert prepared(words[0], out, "limit_damaged=2")[0] == [*range(6)]
    index = tars.index(out)
    assert index and sorted(fault for entry in index["shards"] for fault in entry["damaged"]) == [
        "some.parquet:6: this row holds no bytes of an image", "some.parquet:7: no image, or of an unknown format"
    ]  # fmt: skip
    capsys.readouterr()
    prepare.main([*words, "limit_damaged=2"])
    assert "done already" in capsys.readouterr().out
    ship(file, pictures(range(5)), [0] * 5)
    assert prepared(words[0], tmp_path / "fewer")[2] == ("0",)
    assert "holds shards of images=" in refusal(prepare.main, words, capsys)


def test_columns_of_other_names_are_found_or_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ship(tmp_path / "a.parquet", pictures(range(4)), image_key="img", fine=["x", "y", "x", "y"], cls=[1, 1, 2, 2])
    of = f"parquet:{tmp_path / 'a.parquet'}"
    assert prepared(of, tmp_path / "out")[1] == ["1", "1", "2", "2"]
    assert prepared(of, tmp_path / "fine", "label_key=fine", "image_key=img")[1] == ["x", "y", "x", "y"]
    said = refusal(prepare.main, [of, str(tmp_path / "fine"), *WORDS, "label_key=cls", "image_key=img"], capsys)
    assert "holds shards of label_key=fine, not cls" in said  # other labels are other shards
    pq.write_table(pa.table({"jpg": pictures(range(4))}), tmp_path / "b.parquet")
    assert prepared(f"parquet:{tmp_path / 'b.parquet'}", tmp_path / "bytes")[0] == [0, 1, 2, 3]


ONE = pictures([0])


@pytest.mark.parametrize(
    ("columns", "words", "said"),
    [
        ({"text": ["a"]}, [], "no column image; its columns: text"),
        ({"a": ONE, "b": ONE}, [], "no column image; image_key=NAME takes one of a, b; its columns: a, b"),
        ({"image": ["0.png"]}, [], "the column image is of type string, not bytes"),
        ({"image": ONE, "lable": [0]}, ["label_key=label"], "no column label; allowed: image, lable; did you mean"),
        ({"image": ONE}, ["image_key=imag"], "did you mean 'image'?"),
        ({"image": ONE * 2, "label": ["a", None]}, [], "x.parquet:1 has no label, but other images have one"),
        ({"image": ONE, "label": [[1, 2]]}, [], "column label, row 0: must be a whole number or a name, not [1, 2]"),
        ({"image": ONE, "label": [0.5]}, [], "not 0.5"),
        ({"image": ONE, "label": ["  "]}, [], "1 to 200 printable characters"),
        (
            {"image": ONE, "label": pa.array([b"\xff"]).view(pa.string())},
            [],
            "as parquet: 'utf-8' codec",
        ),
        ({"image": pa.array([], pa.binary())}, [], "no images in"),
    ],
)
def test_columns_that_do_not_fit_are_one_line(
    columns: dict[str, Any], words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert said in refusal(prepare.main, [f"parquet:{tmp_path}", str(tmp_path / "out"), *WORDS, *words], capsys)


def test_labels_outside_the_names_and_two_kinds_of_labels_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ship(tmp_path / "x.parquet", ONE, [4], PETS)
    words = [f"parquet:{tmp_path}", str(tmp_path / "out"), *WORDS]
    assert "row 0: is 4, and there are names of 4 classes" in refusal(prepare.main, words, capsys)
    table = pa.table({"image": ONE, "coarse": [0], "fine": [1]})
    both = {name: {"names": PETS, "_type": "ClassLabel"} for name in ("coarse", "fine")}
    told = {"huggingface": json.dumps({"info": {"features": both}})}
    pq.write_table(table.replace_schema_metadata(told), tmp_path / "x.parquet")
    assert "which is the label, coarse or fine? give label_key=NAME" in refusal(prepare.main, words, capsys)
    assert prepared(words[0], tmp_path / "fine", "label_key=fine")[1] == ["dog"]


@pytest.mark.parametrize("at", [10, 0.3, 0.6, -20, None])
def test_a_damaged_file_is_one_line(at: float | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ship(tmp_path / "x.parquet", pictures(range(12)), [0] * 12)
    content = bytearray((tmp_path / "x.parquet").read_bytes())
    begin = int(at * len(content)) if isinstance(at, float) else at or 0
    content[begin : begin + 12 if begin >= 0 else None] = b"\xff" * 12 if at else b""
    (tmp_path / "x.parquet").write_bytes(bytes(content) if at else b"PAR1")
    try:
        prepare.main([f"parquet:{tmp_path}", str(tmp_path / "out"), *WORDS, "limit_damaged=99"])
    except Exception:  # noqa: BLE001 (an image of it may be damaged alone)
        words = [f"parquet:{tmp_path}", str(tmp_path / "out"), *WORDS]
        assert "x.parquet" in refusal(prepare.main, words, capsys)


@pytest.mark.parametrize("source", ["parquet:{}/none", "parquet:{}/*.parquet", "parquet:{}"])
def test_no_file_is_one_line(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no " in refusal(prepare.main, [source.format(tmp_path), str(tmp_path / "out")], capsys)


def test_a_training_says_that_parquet_files_must_be_prepared(tmp_path: Path) -> None:
    ship(tmp_path / "x.parquet", ONE)
    for name in (f"parquet:{tmp_path}", data.named(str(tmp_path)), data.named(str(tmp_path / "x.parquet"))):
        with pytest.raises(prepare.UserError, match=r"python -m lf\.data\.prepare 'parquet:.*' OUT resolution=8"):
            data.digest(name, 8)
    (tmp_path / "sub").mkdir()
    with pytest.raises(prepare.UserError, match="parquet:PATH OUT reads parquet files"):
        data.digest(data.named(str(tmp_path)), 8)


def test_without_pyarrow_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ship(tmp_path / "x.parquet", ONE)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install pyarrow" in refusal(prepare.main, [f"parquet:{tmp_path}", str(tmp_path / "out")], capsys)


def test_a_file_is_read_a_few_images_at_a_time(tmp_path: Path) -> None:
    large = [bytes([n]) * 500_000 for n in range(200)]
    pq.write_table(
        pa.table({"image": large}), tmp_path / "x.parquet", compression="none", use_dictionary=False, write_batch_size=4
    )
    check = f"""
import pyarrow
from pathlib import Path
from lf.data import parquet
place = Path({str(tmp_path)!r})
parquet.unpack(parquet.find(str(place / "x.parquet")).columns, place)
assert parquet.read(place, 0, 77) == bytes([77]) * 500_000
assert pyarrow.default_memory_pool().max_memory() < 40e6, pyarrow.default_memory_pool().max_memory()
"""
    subprocess.run([sys.executable, "-c", check], check=True)


def test_a_page_that_claims_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [bytes(5000)] * 8}), tmp_path / "x.parquet", use_dictionary=False,
                   compression="none")  # fmt: skip
    content, claimed = (tmp_path / "x.parquet").read_bytes(), b"\xfe\xff\xff\xff\x0f"  # 2³¹ - 1
    sizes = re.match(rb"PAR1\x15\x00\x15(.+?)\x15\1\x2c", content, re.S)  # of the page: unpacked, and as it lies there
    assert sizes
    begin, longer = sizes.end() - 1, len(claimed) - len(sizes[1])
    false = content[: begin - len(sizes[1])] + claimed + content[begin : begin + 99] + content[begin + 99 + longer :]
    (tmp_path / "x.parquet").write_bytes(false)
    check = f"""
import pyarrow
from pathlib import Path
from lf.core.errors import UserError
from lf.data import parquet
place = Path({str(tmp_path)!r})
try:
    parquet.unpack(parquet.find(str(place / "x.parquet")).columns, place)
except UserError as error:
    assert "x.parquet: cannot be read as parquet: " in str(error) and "than expected (2147483647)" in str(error), error
else:
    raise SystemExit("read")
assert pyarrow.default_memory_pool().max_memory() < 40e6, pyarrow.default_memory_pool().max_memory()
"""
    subprocess.run([sys.executable, "-c", check], check=True)
