"""The tree keeps its shape: imports run downwards without circles, light commands import no torch, files stay short."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lf", "sweeps", "analysis", "benchmarks", "tests")
LINES = 300  # of a file, at most


def test_imports_run_downwards_and_no_siblings_form_a_circle() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 kept, 0 broken" in done.stdout
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text(), "an exception to a contract"


@pytest.mark.parametrize("module", [
    "sweeps.status", "sweeps.logs", "sweeps.cancel", "sweeps.completion.answer", *sorted(
    f"lf.core.{file.stem}" for file in (ROOT / "lf" / "core").glob("[!_]*.py"))])  # fmt: skip
def test_it_imports_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_commands_import_no_compiler_before_they_need_it() -> None:
    """torchvision and torch-fidelity import it, too, and it takes a second of each process."""
    commands = "lf.runs, lf.sample, lf.train, sweeps.launch, analysis.report"
    code = f"import sys, {commands}; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_no_file_is_longer_than_300_lines() -> None:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    long = {str(file.relative_to(ROOT)): n for file in files if (n := len(file.read_text().splitlines())) > LINES}
    assert len(files) > 150 and not long
