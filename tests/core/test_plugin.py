"""Somebody else's schedule: a package of its own is installed, tested, trained and sampled, with no change here."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from toy import PATIENCE

pytestmark = pytest.mark.slow

CONFORMANCE = """
from lf import schedules
from lf.schedules.conformance import ScheduleConformance

class TestLatePixels(ScheduleConformance):
    schedule = schedules.create("late_pixels")

class TestLatePixelsOverThreeStreams(ScheduleConformance):
    schedule = schedules.create("late_pixels", streams=3, power=1.5)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs ``python -m …`` where the plugin is installed; returns what it printed."""
    source, target = tmp_path_factory.mktemp("source") / "plugin", tmp_path_factory.mktemp("site")
    shutil.copytree(Path(__file__).parents[1] / "plugin", source)  # building leaves files beside the source
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def run(*words: str) -> str:
        command = [sys.executable, "-m", *words]
        done = subprocess.run(command, cwd=target, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    run("pip", "install", *offline, "--target", str(target), str(source))
    return run


def test_it_passes_the_conformance_class(python: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "test_late_pixels.py").write_text(CONFORMANCE)
    said = python("pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path))
    assert "16 passed" in said


def test_it_trains_and_samples(python: Callable[..., str], store: Path, tmp_path: Path) -> None:
    here = [f"runtime.runs={tmp_path}/runs", "runtime.compile=false", "runtime.threads=1"]
    model = ["schedule=late_pixels", "latents=[{name: tiny, steps: 5}]", "network.depth=1"]
    python("lf.train", f"data=folder:{store}/images", *model, "steps=3", "batch=8", *here)
    (run,) = (tmp_path / "runs" / "training").iterdir()
    assert '"late_pixels"' in (run / "config.json").read_text()
    python("lf.sample", f"run={run.name}", "n=2", "steps=4", f"out={tmp_path}/two.png", *here)
    with Image.open(tmp_path / "two.png") as grid:
        assert grid.size == (34, 67)  # two images of 32 px with a line around each
