"""A full disk, an unwritable store, a file where a folder should be: one line, and what was there stays."""

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from toy import PLAIN, WORDS, files, refusal, training

from lf import evaluate, train_tokenizer
from lf.core.errors import storage_fault
from lf.runs import training_run
from lf.storage import checkpoint
from lf.storage.atomic import replace, replace_tensors
from lf.train import main, train
from sweeps import launch
from sweeps.jobs.failures import POLICY, classify


@contextmanager
def largest(size: int) -> Iterator[None]:
    """Every write beyond ``size`` bytes of a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "full"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_part(tmp_path: Path) -> None:
    text, tensors = tmp_path / "row.json", tmp_path / "some.safetensors"
    replace(text, "old")
    replace_tensors(tensors, {"a": torch.zeros(3)})
    before = files(tmp_path)
    for write, file in ((lambda: replace(text, "x" * 9999), text),
                        (lambda: replace_tensors(tensors, {"a": torch.zeros(9999)}), tensors)):  # fmt: skip
        with largest(4096), pytest.raises(OSError) as error:
            write()
        assert error.value.errno == errno.EFBIG and storage_fault(error.value) == f"{file}: File too large"
    assert files(tmp_path) == before


def test_a_full_disk_is_a_line_too(full: Path) -> None:
    file = full / "some.safetensors"
    replace_tensors(file, {"a": torch.zeros(10000)})
    before = files(full)
    for write in (lambda: replace_tensors(file, {"a": torch.zeros(99999)}), lambda: replace(full / "a", "x" * 999999)):
        with pytest.raises(OSError, match="No space left on device"):
            write()
    assert files(full) == before


def test_a_training_that_cannot_save_stops_with_a_line_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = training(f"runtime.runs={tmp_path}", "runtime.checkpoint_seconds=1e-6")
    folder, save = training_run(config).folder, checkpoint.save
    words = [*WORDS, *PLAIN, f"runtime.runs={tmp_path}", "runtime.checkpoint_seconds=1e-6"]

    def save_on_a_disk_that_fills(*args: object) -> None:
        with largest(30_000) if args[4] > 3 else nullcontext():  # type: ignore[operator]
            save(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "save", save_on_a_disk_that_fills)
    said = refusal(main, words, capsys)
    assert "next.safetensors: File too large; the last checkpoint is kept, and the same command resumes from it" in said
    assert {file.name for file in folder.glob("*.safetensors*")} == {checkpoint.NAME, checkpoint.PREVIOUS}
    assert checkpoint.read(folder / checkpoint.NAME)[1] == 3 and training_run(config).state == "begun"

    (folder / f"next.safetensors.{os.getpid()}.part").write_bytes(b"of one that was killed")
    monkeypatch.setattr(checkpoint, "save", save)
    assert train(config)["id"] == folder.name
    assert not [file for file in folder.iterdir() if "next" in file.name or "part" in file.name]


COMMANDS = {
    "train": (main, [*WORDS, *PLAIN]),
    "tokenizer": (train_tokenizer.main, ["data=digits", "resolution=16", "patch=4"]),
    "evaluate": (evaluate.main, ["run=0123456789ab"]),
    "launch": (launch.main, ["order_ablation", "budget=smoke", "executor=local", "workers=1"]),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("store", ["file", "below", "sys"])
def test_a_store_that_is_no_folder_or_read_only_is_a_line(
    name: str, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    runs = {"file": tmp_path / "file", "below": tmp_path / "file" / "runs", "sys": Path("/sys/lf")}[store]
    if store == "sys" and not Path("/sys/kernel").is_dir():
        pytest.skip("no /sys here, in which nobody can make a folder")
    command, words = COMMANDS[name]
    said = refusal(command, [*words, f"runtime.runs={runs}"], capsys)
    assert str(runs) in said or str(tmp_path / "file") in said
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_done_run_needs_no_writable_store(tmp_path: Path) -> None:
    config = training(f"runtime.runs={tmp_path}")
    row = train(config)
    before = {file: content for file, content in files(training_run(config).folder).items() if "lock" not in file}
    (lock := training_run(config).folder / "lock").mkdir()  # none can be taken
    assert train(config) == row
    lock.rmdir()
    assert files(training_run(config).folder) == before


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, "storage"), (errno.EDQUOT, "storage"), (errno.EROFS, "storage"), (errno.EACCES, "storage"),
     (errno.ESTALE, "vanished"), (errno.EIO, "vanished"), (errno.ENOENT, "bug")],
)  # fmt: skip
def test_a_job_on_a_full_disk_is_not_resubmitted_but_one_whose_store_does_not_answer_is(number: int, kind: str) -> None:
    failure = classify(OSError(number, os.strerror(number), "row.json"))
    assert failure.kind == kind and kind in POLICY and os.strerror(number) in failure.message
