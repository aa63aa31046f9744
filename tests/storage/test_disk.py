"""A disk that is full, or a store that cannot be written: one line, and the last checkpoint stays."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy import PLAIN, WORDS, refusal, training

from lf import train as command
from lf.runs import training_run
from lf.storage import atomic, checkpoint
from lf.train import train


@pytest.fixture
def room() -> Iterator[None]:
    """Restores the limit on the size of files."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def limit(size: int) -> None:
    """From now on no file can become larger: a full disk, but for the number of the error."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], room: None
) -> None:
    words = [*WORDS, *PLAIN, "data=digits", "runtime.checkpoint_seconds=1e-9"]
    save, hard = checkpoint.save, resource.getrlimit(resource.RLIMIT_FSIZE)

    def full_at_20(*given: object) -> None:
        if given[4] == 20:
            limit(100_000)
        save(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "save", full_at_20)
    said = refusal(command.main, [*words, f"runtime.runs={tmp_path}/cut"], capsys)
    resource.setrlimit(resource.RLIMIT_FSIZE, hard)
    monkeypatch.undo()
    assert "next.safetensors: File too large; the last checkpoint is kept, and the same command resumes from it" in said
    cut, whole = (training(*words, f"runtime.runs={tmp_path}/{name}") for name in ("cut", "whole"))
    folder = training_run(cut).folder
    assert checkpoint.read(folder / checkpoint.NAME)[1] == 19
    assert not [
        file.name for file in folder.iterdir() if "part" in file.name or "next" in file.name or ".tmp" in file.name
    ]
    assert train(cut)["loss"] == train(whole)["loss"]


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, room: None) -> None:
    atomic.replace(tmp_path / "x.json", "old")
    limit(10)
    with pytest.raises(OSError, match="x.json"):
        atomic.replace(tmp_path / "x.json", "new" * 1000)
    assert (tmp_path / "x.json").read_text() == "old" and [f.name for f in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("place", ["file", "file/below", "locked", "/sys/lf"])
def test_a_store_that_cannot_be_written_is_one_line(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir(mode=0o500)
    if place == "locked" and os.getuid() == 0:
        pytest.skip("root may write everywhere")
    said = refusal(command.main, [*WORDS, *PLAIN, "data=digits", f"runtime.runs={tmp_path / place}"], capsys)
    assert str(tmp_path / place if place != "/sys/lf" else place) in said
