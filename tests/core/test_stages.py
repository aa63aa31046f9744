"""Stages: silent if short, a line elsewhere than on a terminal, a bar on one; jobs are told."""

import os
import pty
import subprocess
import sys
import termios
import threading

import pytest

from lf.core import stages
from lf.core.stages import listening, stage


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "SECONDS", 0.01)


def test_a_longer_stage_is_a_line_and_listeners_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    told, heard = threading.Event(), list[str]()

    def listener(what: str) -> None:
        heard.append(what)
        told.set()

    with listening(listener), stage("trains the judge", 800, "step") as bar:
        assert told.wait(60)
        bar.update()
    assert heard == ["trains the judge (800 steps)"]
    assert capsys.readouterr().err == "trains the judge (800 steps)\n"


def test_what_was_done_earlier_does_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    told = threading.Event()
    with listening(lambda _: told.set()), stage("prepares", 10, "image", done=4):
        assert told.wait(60)
    assert capsys.readouterr().err == "prepares (6 images)\n"


def test_a_short_stage_says_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "SECONDS", 3600)
    heard = list[str]()
    with listening(heard.append), stage("reads", 2):
        pass
    assert not heard and capsys.readouterr().err == ""


def test_a_failing_stage_leaves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "SECONDS", 3600)
    with pytest.raises(ValueError), stage("reads"):
        raise ValueError
    assert not [
        thread
        for thread in threading.enumerate()
        if isinstance(thread, threading.Timer) and not thread.finished.is_set()
    ]


def test_on_a_terminal_it_is_a_bar() -> None:
    code = (
        "from lf.core import stages; stages.SECONDS = 0\n"
        "with stages.stage('trains the judge', 2) as bar:\n"
        "    bar.update(); bar.refresh()\n"
        "print('end')\n"
    )
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=theirs, stdout=theirs)
    assert process.wait() == 0
    shown = os.read(ours, 65536)
    os.close(theirs)
    os.close(ours)
    assert b"trains the judge:  50%" in shown
