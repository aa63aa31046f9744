"""Leases: a holder is dead only where its process number means something; everywhere else its lease must expire."""

import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from socket import getfqdn, gethostname

import psutil
import pytest
from flufl.lock import Lock
from toy import PATIENCE

from lf.core import preemption
from lf.storage import lease as leases
from lf.storage.lease import held, lease, machine

HOLD = "import sys; from pathlib import Path; from lf.storage.lease import lease\n"
HOLD += "with lease(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
LOOK = "import sys; from pathlib import Path; from lf.storage.lease import _Lock, _remove_dead, held\n"
LOOK += "f = Path(sys.argv[1]); _remove_dead(_Lock(str(f)), f); print(held(f))"
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc"]


def python(source: str, file: Path, *before: str, **options: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-c", source, str(file)], text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def gone() -> int:
    """A process number that no process has."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def claim(file: Path, host: str, pid: int, left: float = 60) -> None:
    """A lease of another process, which has ``left`` seconds to live."""
    name = Path(f"{file}|{host}|{pid}|1")
    name.write_text(str(name))
    os.link(name, file)
    until = (datetime.now() + timedelta(seconds=left)).timestamp()
    os.utime(file, (until, until))


@pytest.fixture
def unshare() -> list[str]:
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"PID namespaces are not permitted here: {tried.stderr.strip()}")
    return UNSHARE


@pytest.mark.parametrize("inside", ["the one that looks", "the holder"])
def test_another_pid_namespace_leaves_a_living_holder_its_lease(
    unshare: list[str], inside: str, tmp_path: Path
) -> None:
    file = tmp_path / "lock"
    holder = python(HOLD, file, *(unshare if inside == "the holder" else []))
    assert holder.stdout and holder.stdout.readline() == "held\n"
    before = file.read_text()
    out, err = python(LOOK, file, *(unshare if inside != "the holder" else [])).communicate(timeout=PATIENCE)
    assert out == "True\n", err
    assert file.read_text() == before
    _, err = holder.communicate("", timeout=PATIENCE)
    assert holder.returncode == 0 and not file.exists(), err


def test_a_lease_of_a_dead_process_of_this_machine_is_free_at_once(tmp_path: Path) -> None:
    if not machine():
        pytest.skip("this system does not say which boot and PID namespace it is")
    file = tmp_path / "lock"
    holder = python(HOLD, file)
    assert holder.stdout and holder.stdout.readline() == "held\n" and held(file)
    assert f"|{gethostname()[:64]}@{machine()}|{holder.pid}|" in file.read_text()
    holder.kill()
    holder.communicate()
    assert file.exists() and not held(file)
    with lease(file):
        assert held(file)
    assert not held(file)


@pytest.mark.parametrize(
    "host", [f"{gethostname()}@0123456789ab", f"{gethostname()}@", gethostname(), getfqdn(), "localhost", "elsewhere"]
)
def test_a_lease_of_another_machine_or_version_is_held_until_it_expires(host: str, tmp_path: Path) -> None:
    file = tmp_path / "lock"
    claim(file, host, gone())
    leases._remove_dead(leases._Lock(str(file)), file)
    assert file.exists() and held(file)
    claim(late := tmp_path / "late", host, gone(), left=-60)
    assert not held(late)
    with lease(late):
        assert held(late)


def test_without_a_name_of_the_machine_nobody_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "machine", lambda: "")
    claim(file := tmp_path / "lock", f"{gethostname()[:64]}@", gone())
    leases._remove_dead(leases._Lock(str(file)), file)
    assert file.exists() and held(file)


@pytest.mark.parametrize("content", [b"", b"\0" * 80, b"not a claim", b"a|b|c|d", b"\xff|\xfe", b"|" * 9])
def test_a_damaged_lease_counts_until_it_is_old(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "lock"
    file.write_bytes(content)
    assert held(file), "it may be written just now"
    os.utime(file, (time.time() - 60,) * 2)
    assert not held(file)
    with lease(file):
        assert held(file)


def test_who_waits_says_once_for_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leases, "PATIENCE", 0.0)
    file, answers = tmp_path / "run" / "lock", iter(["", ""])
    file.parent.mkdir()
    claim(file, "node7@0123456789ab", 4711)
    monkeypatch.setattr(preemption, "asked", lambda: next(answers, "SIGTERM"))
    with pytest.raises(preemption.Stopped, match="SIGTERM"), lease(file):
        pytest.fail("it has the lease of another")
    assert capsys.readouterr().err == f"waiting for {file.parent}: process 4711 on node7 holds its lease\n"


def test_what_earlier_versions_ask_about_a_lease_is_answered_safely(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with lease(file):
        assert Lock(str(file)).state.name == "unknown" and Lock(str(file)).details[1] == os.getpid()
        assert psutil.pid_exists(Lock(str(file)).details[1])
