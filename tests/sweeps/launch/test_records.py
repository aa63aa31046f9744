"""What jobs leave behind, and what is told from it of those that died or run elsewhere."""

import json
import socket
import subprocess
import time
from pathlib import Path

import psutil
from order import NAME
from toy import PATIENCE

from lf.storage.atomic import replace
from lf.storage.lease import lease
from sweeps.jobs import records, state


def test_a_note_that_a_dying_machine_tore_spoils_no_other(tmp_path: Path) -> None:
    records.record_attempt(tmp_path, began=1)
    with (tmp_path / "attempts.jsonl").open("a") as file:
        file.write('{"ended": 2, "outc')
    assert records.attempts(tmp_path) == [{"began": 1}]
    records.record_attempt(tmp_path, began=3)
    assert records.attempts(tmp_path) == [{"began": 1}, {"began": 3}]


def test_a_job_of_this_machine_lives_until_it_and_all_below_it_are_killed() -> None:
    shell = subprocess.Popen(["bash", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    assert shell.stdout
    child = int(shell.stdout.readline())
    job = {"job": str(shell.pid), "host": socket.gethostname(), "at": time.time()}
    assert records.lives(job) and not records.lives(job | {"host": "elsewhere"})
    assert not records.lives(job | {"at": time.time() - 60}), "the number is another's by now, which began later"
    records.kill([str(shell.pid)])
    shell.communicate()
    assert not records.lives(job)
    deadline = time.monotonic() + PATIENCE
    while psutil.pid_exists(child) and psutil.Process(child).status() != "zombie" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"


def test_what_another_machine_runs_is_running_as_long_as_it_holds_the_run(copy: Path) -> None:
    sweep, manifest = state.read(NAME, copy)
    unit = manifest["units"][0]
    (copy / unit["rows"][0]).unlink()
    job = {"job": "1", "on": "local", "host": "elsewhere", "at": 0, "submitted": [0]}
    replace(copy / "jobs" / unit["key"] / "job.json", json.dumps(job))
    with lease((copy / unit["rows"][0]).with_name("lock")):
        assert state.states(sweep, [unit], {})[unit["key"]].name == "running"
    assert state.states(sweep, [unit], {})[unit["key"]].name == "vanished"
