"""Preparing shards, killed: it goes on to the very same bytes, and a worker that is killed is one line."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from toy import PATIENCE, files, run, start

from lf import data
from lf.core.errors import UserError
from lf.data import prepare
from lf.data.prepare import Preparing

WORDS = ["resolution=16", "shard_size=7", "workers=2"]


def gone(pid: int) -> bool:
    """Whether a process has ended (one that nobody waits for stays as a zombie)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for(met: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@pytest.mark.slow
def test_after_a_kill_it_goes_on_to_the_very_same_bytes(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["resolution=256", "shard_size=2", "workers=2"]
    prepare.prepare(str(source), tmp_path / "calm", Preparing(resolution=256, shard_size=2, workers=2))
    out = tmp_path / "killed"
    process = start("lf.data.prepare", str(source), str(out), *words)
    wait_for(lambda: len(list(out.glob("unfinished/train-*"))) >= 4)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(workers) == 2
    wait_for(lambda: all(gone(int(pid)) for pid in workers))
    done = {name: file for name, file in files(out).items() if name.endswith(".tar")}
    assert 4 <= len(done) < 20 and not (out / "index.json").exists()
    with pytest.raises(UserError, match="is not finished"):
        data.open(f"shards:{out}", 256, tmp_path / "cache")
    code, said, _ = run("lf.data.prepare", str(source), str(out), *words)
    assert code == 0 and said.startswith("done: ")
    after = files(out)
    kept = [name for name, file in done.items() if after[name] == file]
    assert len(kept) >= 4  # finished shards were not written again
    calm = files(tmp_path / "calm")
    assert {k: v for k, (_, v) in after.items()} == {k: v for k, (_, v) in calm.items()}
    capsys.readouterr()
    prepare.main([str(source), str(out), *words])
    assert capsys.readouterr().out.startswith("done already: ") and files(out) == after


def test_a_worker_that_is_killed_is_one_line(source: Path, tmp_path: Path) -> None:
    process = start("lf.data.prepare", str(source), str(tmp_path / "out"), "resolution=512", "shard_size=2")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(lambda: (tmp_path / "out" / "unfinished").exists() and bool(children.read_text()))
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "a worker was killed" in err.splitlines()[-1] and "Traceback" not in err
