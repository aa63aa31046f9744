"""Who holds a lease, and when another process may take it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from flufl.lock import Lock
from toy import PATIENCE

from lf.storage import lease as leases
from lf.storage.lease import held, lease, machine

ASK = """
import sys
from pathlib import Path
from lf.storage.lease import lease
with lease(Path(sys.argv[1])):
    print("held")
"""
UNSHARED = ["unshare", "--pid", "--fork", "--mount-proc"]
CAN_UNSHARE = shutil.which("unshare") and subprocess.run([*UNSHARED, "true"], capture_output=True).returncode == 0


def ask(file: Path, *before: str) -> subprocess.Popen[str]:
    """Another process that wants the lease."""
    return subprocess.Popen([*before, sys.executable, "-c", ASK, str(file)], text=True, stdout=-1, stderr=-1)


def waits_until_released(file: Path, *before: str) -> None:
    with lease(file):
        other = ask(file, *before)
        assert other.stderr is not None
        said = other.stderr.readline()  # after some seconds
        host = machine().partition(".")[0]
        assert said == f"waiting for {file.parent}, which process {os.getpid()} on {host} is working on\n"
        assert other.poll() is None and held(file)
    out, err = other.communicate(timeout=PATIENCE)
    assert (other.returncode, out, err) == (0, "held\n", "")


def test_a_second_process_waits_and_says_so(tmp_path: Path) -> None:
    waits_until_released(tmp_path / "lock")


@pytest.mark.skipif(not CAN_UNSHARE, reason="unshare --pid is not permitted here")
def test_a_process_in_another_pid_namespace_does_not_take_the_lease_of_a_live_one(tmp_path: Path) -> None:
    waits_until_released(tmp_path / "lock", *UNSHARED)


def left_by(file: Path, name: str, pid: int) -> None:
    """Leaves a fresh lease, as a process of the machine ``name`` that was killed does."""
    lock = Lock(str(file), lifetime=leases.LEASE)
    lock._claimfile = f"{file}|{name}|{pid}|1"
    lock.lock()


def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_the_lease_of_a_dead_process_of_this_machine_is_taken_at_once(tmp_path: Path) -> None:
    left_by(tmp_path / "lock", machine(), dead())
    assert not held(tmp_path / "lock")
    with lease(tmp_path / "lock"):
        assert held(tmp_path / "lock")


@pytest.mark.parametrize("name", ["localhost", "localhost.1234abcd.4026531836"])
def test_the_lease_of_another_machine_is_waited_for_even_if_it_has_the_same_name(name: str, tmp_path: Path) -> None:
    """Also one that version 0.2 left, which noted the host's full name alone."""
    left_by(tmp_path / "lock", name, dead())
    assert held(tmp_path / "lock")
    other = ask(tmp_path / "lock")
    assert other.stderr is not None and other.stderr.readline().startswith("waiting for ")
    other.kill()
    other.communicate()


def test_what_is_no_lease_is_waited_for_and_not_removed(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("notes")
    other = ask(tmp_path / "lock")
    assert other.stderr is not None and "which another process is working on" in other.stderr.readline()
    other.kill()
    other.communicate()
    assert (tmp_path / "lock").read_text() == "notes"


def test_a_machine_without_proc_has_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    whole = machine()
    assert whole.count(".") >= 2 and whole == machine()
    monkeypatch.setattr(Path, "read_text", missing)
    assert machine.__wrapped__() == whole.rsplit(".", 2)[0]
