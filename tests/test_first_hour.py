"""A newcomer's first hour: the wheel is installed, and the commands of docs/first-hour.md are run in an empty folder.

What is installed is all that is needed: nothing of the source tree is on the path.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from browser import chromium
from pages import ROOT, blocks_of, own
from PIL import Image

PAGE = ROOT / "docs" / "first-hour.md"
NETWORK = ["steps=3", "batch=8", "network.depth=1", "network.width=32", "network.heads=2"]
SMALLER = {  # what is appended to the commands of the page
    "lf.train": [*NETWORK, "runtime.compile=false"],
    "lf.evaluate": ["n=8", "steps=4", "runtime.compile=false"],
    "lf.sample": ["steps=4", "runtime.compile=false"],
    "sweeps.launch": ["runtime.compile=false"],
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the wheel of a copy of this tree is installed."""
    place = tmp_path_factory.mktemp("wheel")
    source, target = place / "source", place / "target"
    source.mkdir()
    for name in ("lf", "sweeps", "analysis", "results"):
        shutil.copytree(
            ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.p??")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", place, source], check=True, cwd=place)
    (wheel,) = place.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", target, wheel], check=True, cwd=place)
    return target


def run(installed: Path, desk: Path, *words: str) -> str:
    """What a command in the folder ``desk`` prints."""
    env = {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", *words], cwd=desk, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def test_its_data_is_installed_with_it(installed: Path, tmp_path: Path) -> None:
    files = {str(file.relative_to(installed)) for file in installed.rglob("*") if file.is_file()}
    assert {
        "analysis/report.html", "analysis/base.html", "analysis/index.html", "sweeps/clusters/one_gpu.toml",
        "analysis/committed/paper/table01_order.csv", "analysis/committed/order_ablation/rows.jsonl", "lf/py.typed",
    } <= files  # fmt: skip
    assert len([file for file in files if file.startswith("lf/weights/")]) == 2
    assert "Published (LF" in run(installed, tmp_path, "analysis.tables", "order_ablation", "results")
    assert (tmp_path / "results" / "order_ablation" / "table.md").read_text() == (
        ROOT / "results" / "order_ablation" / "table.md"
    ).read_text()


def images(folder: Path, number: int) -> None:
    folder.mkdir(parents=True)
    for i in range(number):
        noise = np.random.default_rng(i).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")


@pytest.mark.slow
def test_the_commands_of_the_page_work_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in installed.rglob("*")}
    for place in ("photos/cats", "photos/dogs", "flat"):
        images(tmp_path / place, 20)
    said: dict[str, str] = {}
    for block in blocks_of(PAGE):
        if name := block.note("file"):
            (tmp_path / name).write_text(block.text)
        for line in block.lines if block.language == "bash" else ():
            module, *words = own(line) or [""]
            assert module, line
            words = [word.replace("run-ID", f"run-{said.get('id', '')}") for word in words]
            more = [] if "--dry-run" in words else SMALLER.get(module, [])
            if "latents=tiny" in words:
                more = [*more, "latents=[{name: tiny, steps: 5}]"]
            said[line] = run(installed, tmp_path, module, *words, *more)
            if line == "python -m lf.runs tiny cascaded":
                said["id"] = said[line].splitlines()[1].split()[0]
    launched = said["python -m sweeps.launch order_ablation budget=smoke"]
    assert "its numbers mean nothing" in launched and "better in every seed" not in launched
    assert re.search(r"new +\d+ +0 +first run in this store", said["python -m sweeps.launch order_ablation --dry-run"])
    assert len(said["python -m lf.runs"].splitlines()) == 6, "four trainings"
    assert "cfg" in said["python -m analysis.tables run-ID"]
    assert len(said["python -m lf.runs photos"].splitlines()) == 3
    for name in ("images.png", "photos.png"):
        with Image.open(tmp_path / name) as drawn:
            assert drawn.size[0] >= 4 * 32, "16 images of 32 pixels"
    reports = tmp_path / "runs" / "reports"
    assert {"table.md", "table.csv", "report.html", "alpha.png"} <= {
        f.name for f in (reports / "order_ablation-smoke").iterdir()
    }
    with chromium() as browser:
        for name, words in (("order_ablation-smoke", "FD-shapes"), ("coarse-smoke", "coarse to fine")):
            page, faults = browser.new_page(viewport={"width": 1400, "height": 900}), []
            page.on("pageerror", lambda error, faults=faults: faults.append(str(error)))
            page.goto((reports / name / "report.html").as_uri())
            assert page.locator("#scores tbody tr").count() and words in page.inner_text("body") and not faults
    for command in ("findings", "probe", "export"):
        run(installed, tmp_path, f"analysis.{command}", "order_ablation")
    rows = (tmp_path / "results" / "order_ablation" / "rows.jsonl").read_text()
    assert '"revision": "version ' in rows, "the code that ran is the installed one"
    assert {"rows.jsonl", "measured.safetensors"} <= {f.name for f in (tmp_path / "results/order_ablation").iterdir()}
    written = {"photos", "flat", "shards", "coarse.py", "images.png", "photos.png", "runs", "results"}
    assert {file.name for file in tmp_path.iterdir()} == written
    assert before == {file: file.stat().st_mtime_ns for file in installed.rglob("*")}
