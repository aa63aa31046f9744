"""A launch as a user runs it: real processes, the real encoder and the real judge; killed, or ended by a failure."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from inline import inline
from order import CELLS, NAME, rows, runs_of, scores, table_of
from toy import LATENT, PATIENCE, PLAIN, WORDS, Judged, run, start

from sweeps import launch

pytestmark = pytest.mark.slow

# Judge and encoder of these data come with the code.
SHAPES = ["data=shapes", "resolution=32", "network.patch=8", "runtime.latents=online"]
SMALL = [*(word for word in WORDS if word.partition("=")[0] not in ("data", "resolution", "network.patch")), *PLAIN,
         "evaluation.n=32", "evaluation.steps=4", "workers=2"]  # fmt: skip


def test_a_launch_does_all_cells_and_prints_the_table(tmp_path: Path) -> None:
    code, out, err = run("sweeps.launch", NAME, *SMALL, *SHAPES, f"runtime.runs={tmp_path}")
    assert code == 0, out + err
    assert len(rows(tmp_path)) == CELLS and len(rows(tmp_path, "training")) == 4
    assert table_of(tmp_path) in out
    (line,) = (line for line in out.splitlines() if line.startswith("report: "))
    page = Path(line.removeprefix("report: "))
    assert page == tmp_path / "reports" / NAME / "report.html" and (page.parent.parent / "index.html").exists()
    assert len([file for file in page.parent.iterdir() if file.stat().st_size]) >= 8


def launch_and_kill(words: list[str], ready: Callable[[], bool]) -> None:
    """Starts a launch and kills it and all its children as soon as ``ready``."""
    process = start("sweeps.launch", *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


FEW = '''
"""Does it end as if it had not been killed?"""
from sweeps.cells import Cell

def cells(launch):
    for seed in range(2):
        training = launch.train(seed=seed, schedule="independent")
        for alpha in (1 / 16, 1 / 4, 1 / 2, 1, 4, 16):
            path = {"name": "shifted", "alpha": alpha}
            yield Cell({"seed": seed, "alpha": alpha}, training, launch.evaluate(path=path))
'''


def test_killed_twice_and_launched_again_it_scores_as_if_undisturbed(judged: Judged, tmp_path: Path) -> None:
    (tmp_path / "few.py").write_text(FEW)
    place, alone = judged(tmp_path / "runs"), judged(tmp_path / "alone")
    words = [str(tmp_path / "few.py"), "data=digits", "resolution=16", "network.patch=4", LATENT, *SMALL]
    with inline():
        launch.main([*words, f"runtime.runs={alone}"])
    words += [f"runtime.runs={place}", "runtime.checkpoint_seconds=1e-6"]

    launch_and_kill(words, lambda: any(place.glob("training/*/checkpoint.safetensors")))
    assert not rows(place, "training") and not rows(place), "killed in the middle of a training"
    launch_and_kill(words, lambda: len(list(place.glob("evaluation/*/row.json"))) >= 2)
    assert 2 <= len(rows(place)) < 12, "killed between two evaluations"
    before = {name: file for name, file in runs_of(place).items() if name.endswith("row.json")}

    code, out, err = run("sweeps.launch", *words)
    assert code == 0, out + err
    assert scores(place) == scores(alone) and len(scores(place)) == 12
    after = runs_of(place)
    assert {name: after[name] for name in before} == before, "what was done is done again"


TRUNK = '''
"""Is the trunk trained once?"""
from sweeps.cells import Cell

def cells(launch):
    for name in ("cascaded", "shifted"):
        training = launch.train(latents=[{"name": "pixels", "cells": 2}], schedule=name)
        yield Cell({"order": name}, training, launch.evaluate())
'''


def test_launchers_at_once_train_a_trunk_once(judged: Judged, tmp_path: Path) -> None:
    """Two of one sweep, and one of another that needs the same trunk."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(TRUNK if name == "one" else TRUNK.replace("cascaded", "offset"))
    place = judged(tmp_path / "runs")
    words = ["data=digits", "resolution=16", "network.patch=4", *SMALL, "from=trunk", f"runtime.runs={place}"]
    launchers = [start("sweeps.launch", str(tmp_path / f"{name}.py"), *words) for name in ("one", "one", "two")]
    said = [launcher.communicate(timeout=PATIENCE) for launcher in launchers]
    assert not any(launcher.returncode for launcher in launchers), said
    assert len(rows(place, "training")) == 1 + 3 and len(rows(place)) == 3
    logged = [len(list(folder.glob("*tfevents*"))) for folder in (place / "training").iterdir()]
    assert logged == [1] * 4, "trained once"


FAILING = '''
"""Does the first failure end it?"""
from sweeps.cells import Cell

def cells(launch):
    yield Cell({"case": "fails", "lr": 1e30}, launch.train(lr=1e30, steps=50), launch.evaluate())
    for seed in range(2):
        training = launch.train(lr=1e-3, steps=10**6, seed=seed)
        yield Cell({"case": f"long {seed}", "lr": 1e-3}, training, launch.evaluate())
'''


def test_to_fail_fast_ends_all_at_the_first_failure(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    words = [word for word in WORDS if not word.startswith(("lr=", "steps="))]
    asked = [
        str(tmp_path / "failing.py"),
        *words,
        *PLAIN,
        "evaluation.n=8",
        "workers=2",
        f"runtime.runs={tmp_path}/runs",
    ]
    code, out, err = run("sweeps.launch", *asked, "--fail-fast")
    assert code == 1, out + err
    assert "failed: train fails lr 1e+30: nan: " in out and not rows(tmp_path / "runs", "training")
    jobs = [json.loads(file.read_text())["job"] for file in (tmp_path / "runs" / "jobs").glob("*/job.json")]
    begun = [int(job) for job in jobs if job.isdigit()]
    deadline = time.monotonic() + PATIENCE
    while (alive := [job for job in begun if Path(f"/proc/{job}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert begun and not alive, "the others are ended"
