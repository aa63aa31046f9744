"""Damage in a file of tensors is found where it is read, and the previous checkpoint is used."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from toy import PLAIN, refusal, training

from lf import sample
from lf.core.errors import UserError
from lf.runs import training_run
from lf.storage import cache, checkpoint, verified
from lf.train import train

TENSORS = {"raw.w": torch.randn(7, 5), "raw.b": torch.zeros(0), "ema.w": torch.randn(7, 5).bfloat16(),
           "losses": torch.arange(6.0), "count": torch.tensor(3)}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("whole") / "x.safetensors"
    verified.write(file, TENSORS, {"step": "5", "seconds": "1.5"})
    return file.read_bytes()


def test_what_was_written_is_read_whole_or_set_by_set(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / "x").write_bytes(whole)
    found, about = verified.read(tmp_path / "x")
    assert found.keys() == TENSORS.keys() and all(found[name].equal(TENSORS[name]) for name in found)
    assert about == {"step": "5", "seconds": "1.5"}
    assert verified.read(tmp_path / "x", "ema")[0].keys() == {"ema.w"}
    assert load_file(tmp_path / "x").keys() == TENSORS.keys(), "any reader of safetensors reads it"


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_every_flipped_bit_is_found(at: int, bit: int, tmp_path_factory: pytest.TempPathFactory, whole: bytes) -> None:
    file = tmp_path_factory.mktemp("flipped") / "x.safetensors"
    torn = bytearray(whole)
    torn[at % len(torn)] ^= 1 << bit
    file.write_bytes(torn)
    try:
        found, about = verified.read(file)
    except verified.Damaged as fault:
        assert str(fault) and "\n" not in str(fault)
    else:  # in the padding of the header
        assert about == {"step": "5", "seconds": "1.5"} and all(found[n].equal(TENSORS[n]) for n in TENSORS)


@given(end=st.integers(0, 10**6))
def test_every_torn_file_is_found(end: int, tmp_path_factory: pytest.TempPathFactory, whole: bytes) -> None:
    file = tmp_path_factory.mktemp("torn") / "x.safetensors"
    file.write_bytes(whole[: end % len(whole)])
    with pytest.raises(verified.Damaged):
        verified.read(file)


def test_a_set_is_read_beside_a_damaged_one(tmp_path: Path, whole: bytes) -> None:
    place = whole.index(TENSORS["ema.w"].view(torch.uint8).numpy().tobytes())
    (tmp_path / "x").write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
    assert verified.read(tmp_path / "x", "raw")[0]["raw.w"].equal(TENSORS["raw.w"])
    with pytest.raises(verified.Damaged, match="the digest of ema differs"):
        verified.read(tmp_path / "x", "ema")


def test_files_without_digests_are_read_as_before(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "checkpoint", {"step": "5"})
    save_file(TENSORS, tmp_path / "cached")
    assert checkpoint.read(tmp_path / "checkpoint")[1] == 5
    assert verified.read(tmp_path / "cached")[0].keys() == TENSORS.keys()


def harm(file: Path) -> None:
    """Overwrites some bytes of averaged weights, as a broken disk does; the header stays whole."""
    content = bytearray(file.read_bytes())
    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length])
    begin, end = max(e["data_offsets"] for name, e in entries.items() if name.startswith("ema."))
    content[8 + length + begin : 8 + length + end] = bytes(end - begin)
    file.write_bytes(content)


def test_training_goes_on_from_the_previous_checkpoint_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "data=digits",
        "latents=[{name: pixels, cells: 2}]",
        "schedule=cascaded",
        "runtime.checkpoint_seconds=1e-9",
    ]
    whole = training(*words, f"runtime.runs={tmp_path}/whole")
    train(whole)
    cut = training(*words, f"runtime.runs={tmp_path}/cut")
    save = checkpoint.save

    def stop_at_30(*given: object) -> None:
        save(*given)  # type: ignore[arg-type]
        if given[4] == 30:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", stop_at_30)
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    monkeypatch.undo()
    folder = training_run(cut).folder
    harm(folder / checkpoint.NAME)
    train(cut)
    said = capsys.readouterr().err
    assert "damaged: the digest of" in said and "resuming from previous.safetensors, step 29" in said
    ours, theirs = (checkpoint.read(training_run(c).folder / checkpoint.NAME)[0] for c in (cut, whole))
    assert all(ours[name].equal(theirs[name]) for name in theirs)

    harm(folder / checkpoint.NAME)
    said = refusal(sample.main, [f"run={folder}", f"out={tmp_path}/x.png", "steps=2", *PLAIN], capsys)
    assert f"cannot read checkpoint {folder / checkpoint.NAME}: damaged" in said and "rerun its training" in said

    (folder / "row.json").unlink()
    harm(folder / checkpoint.PREVIOUS)
    with pytest.raises(UserError) as refused:
        train(cut)
    assert "checkpoint.safetensors" in str(refused.value) and "previous.safetensors" in str(refused.value)


def test_a_damaged_cached_file_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, made = tmp_path / "x.safetensors", []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"mean": torch.randn(4000)}

    first = cache.made_once(file, make)["mean"]
    assert cache.made_once(file, make)["mean"].equal(first) and len(made) == 1
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="x.safetensors: damaged"):
        cache.kept(file)
    second = cache.made_once(file, make)["mean"]
    assert len(made) == 2 and "it is made again" in capsys.readouterr().err
    assert cache.kept(file)["mean"].equal(second)


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '{"step"', "\x00\x00"], ids=repr)
def test_a_torn_row_costs_its_own_unit_alone(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = training("data=digits", f"runtime.runs={tmp_path}")
    row = train(config)
    run = training_run(config)
    (run.folder / "row.json").write_text(content)
    assert run.row is None and "row.json: is " in capsys.readouterr().err
    again = train(config)
    assert again["loss"] == row["loss"] and json.loads((run.folder / "row.json").read_text()) == again
