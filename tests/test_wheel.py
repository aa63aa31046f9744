"""What is installed is all that is needed: the wheel, in an empty folder, away from the source tree."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ["budget=smoke", "data=digits", "resolution=16", "network.patch=4", "runtime.device=cpu", "workers=2"]


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


def run(installed: Path, desk: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in the folder ``desk``; nothing of the source tree is on its path."""
    env = {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", *words], cwd=desk, env=env, capture_output=True, text=True)


def test_its_data_is_installed_with_it(installed: Path, tmp_path: Path) -> None:
    files = {str(file.relative_to(installed)) for file in installed.rglob("*") if file.is_file()}
    assert {
        "analysis/report.html", "analysis/base.html", "analysis/index.html", "sweeps/clusters/one_gpu.toml",
        "analysis/committed/paper/table01_order.csv", "analysis/committed/order_ablation/rows.jsonl", "lf/py.typed",
    } <= files  # fmt: skip
    assert len([file for file in files if file.startswith("lf/weights/")]) == 2
    done = run(installed, tmp_path, "analysis.tables", "order_ablation", "results")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "order_ablation" / "table.md").read_text() == (
        ROOT / "results" / "order_ablation" / "table.md"
    ).read_text()
    assert "Published (LF" in done.stdout


@pytest.mark.slow
def test_a_launch_in_an_empty_folder_writes_table_and_report_there_and_nothing_else(
    installed: Path, tmp_path: Path, judged: Callable[[Path], Path]
) -> None:
    judged(tmp_path / "runs")
    before = {file: file.stat().st_mtime_ns for file in installed.rglob("*")}
    done = run(installed, tmp_path, "sweeps.launch", "order_ablation", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    report = tmp_path / "runs" / "reports" / "order_ablation-digits-smoke"
    assert {"table.md", "table.csv", "report.html", "alpha.png"} <= {file.name for file in report.iterdir()}
    assert "its numbers mean nothing" in done.stdout and "better in every seed" not in done.stdout
    for command in ("findings", "probe", "export"):
        again = run(installed, tmp_path, f"analysis.{command}", "order_ablation")
        assert again.returncode == 0, again.stderr
    assert {file.name for file in tmp_path.iterdir()} == {"runs", "results"}
    rows = (tmp_path / "results" / "order_ablation" / "rows.jsonl").read_text()
    assert '"revision": "version ' in rows, "the code that ran is the installed one"
    assert {"rows.jsonl", "measured.safetensors"} <= {f.name for f in (tmp_path / "results/order_ablation").iterdir()}
    assert before == {file: file.stat().st_mtime_ns for file in installed.rglob("*")}
