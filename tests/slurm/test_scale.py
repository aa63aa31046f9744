"""Many cells: few questions to SLURM, arrays no longer than it allows, few files read."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from toy import PATIENCE, PLAIN, WORDS

pytestmark = pytest.mark.slow

ENVIRONMENT = dict(os.environ)  # as it was before tests/conftest.py hid an installed SLURM from the tests
COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "scancel")
TRAININGS = 4 * 30  # of order_ablation: four a seed; as many jobs evaluate them


class Counted:
    """A run store and a way to run commands that counts what they ask of SLURM."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.folder, self.runs, self.log = folder, folder / "runs", folder / "calls"
        (folder / "bin").mkdir()
        for name in COMMANDS:
            real = shutil.which(name, path=cluster.env["PATH"])
            (folder / "bin" / name).write_text(f'#!/bin/sh\necho {name} >>{self.log}\nexec {real} "$@"\n')
            (folder / "bin" / name).chmod(0o755)
        self.env = cluster.env | {"PATH": f"{folder / 'bin'}:{cluster.env['PATH']}"}

    def do(self, command: str, *words: str) -> tuple[str, Counter[str]]:
        """Runs ``python -m sweeps.command``: what it said, and what it asked."""
        self.log.write_text("")
        done = subprocess.run(
            [sys.executable, "-m", f"sweeps.{command}", *words],
            env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, Counter(self.log.read_text().split())


@pytest.fixture(scope="module")
def small_arrays(cluster: Cluster) -> Iterator[Cluster]:
    """A second cluster, which allows arrays of 49; ``cluster`` has found out whether one can start here."""
    other = Cluster(ENVIRONMENT, LF_SLURM_MAX_ARRAY="50")
    try:
        other.start()
        yield other
    finally:
        other.stop()


def test_a_big_sweep_is_a_few_arrays_and_its_status_one_question(small_arrays: Cluster, tmp_path: Path) -> None:
    place = Counted(small_arrays, tmp_path)
    sweep = ["order_ablation", *WORDS, *PLAIN, "seeds=0-29", "evaluation.n=32", "evaluation.steps=4"]
    where = [f"runtime.runs={place.runs}", "executor=slurm", "cluster.job.extra.hold=true"]  # none of it is to run
    out, asked = place.do("launch", *sweep, *where, "--no-wait")
    assert asked["sbatch"] == 3 + 3 + 1, "49 + 49 + 22 trainings, as many that evaluate, and what tries again"
    assert asked["squeue"] <= 2 and asked["scontrol"] <= 2 and not asked["sacct"]

    manifest = json.loads((place.runs / "sweeps" / "order_ablation" / "sweep.json").read_text())
    jobs = [
        json.loads((place.runs / "jobs" / unit["key"] / "job.json").read_text())["job"] for unit in manifest["units"]
    ]
    arrays = Counter(job.partition("_")[0] for job in jobs)
    assert len(set(jobs)) == 2 * TRAININGS and sorted(arrays.values()) == [22, 22, 49, 49, 49, 49]
    assert {job: "PENDING" for job in jobs}.items() <= small_arrays.squeue().items()

    for unit in manifest["units"][: TRAININGS // 2]:
        for row in unit["rows"]:
            (place.runs / row).parent.mkdir(parents=True, exist_ok=True)
            (place.runs / row).write_text(json.dumps({"id": row.split("/")[1]}))
    (place.runs / "jobs" / "queue.json").unlink(missing_ok=True)
    out, asked = place.do("status", "order_ablation", f"runs={place.runs}")
    assert f"jobs: {2 * TRAININGS - TRAININGS // 2} pending, {TRAININGS // 2} done" in out
    assert asked == {"squeue": 1}
    assert len(out.splitlines()) < 50 and "not shown (--all)" in out

    (place.runs / "jobs" / "queue.json").touch()
    _, asked = place.do("status", "order_ablation", f"runs={place.runs}")
    assert not asked, "SLURM's last answer is fresh"

    out, asked = place.do("cancel", "order_ablation", f"runs={place.runs}")
    assert out.startswith(f"{2 * TRAININGS - TRAININGS // 2} tasks cancelled") and asked["scancel"] == 1
    small_arrays.wait(
        lambda: not {job for job, now in small_arrays.squeue().items() if now == "PENDING"} & set(jobs[60:])
    )


def test_what_a_dry_run_prints_of_ten_thousand_cells_fits_a_screen_and_asks_little(
    small_arrays: Cluster, tmp_path: Path
) -> None:
    place = Counted(small_arrays, tmp_path)
    out, asked = place.do("launch", "order_ablation", "seeds=0-555", "data=digits", "resolution=16", "--dry-run",
                          f"runtime.runs={place.runs}")  # fmt: skip
    assert len(out.splitlines()) < 80 and "and 2,194 more trainings" in out and "10,008,000 images" in out
    assert sum(asked.values()) <= 2 and not place.runs.exists()
