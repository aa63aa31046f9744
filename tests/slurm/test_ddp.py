"""A cell over two nodes with two processes each: the numbers of one process."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cluster import Cluster
from toy import LATENT, PATIENCE, PLAIN, WORDS, Judged, training

from lf.config import Evaluation
from lf.core.parsing import parse
from lf.evaluate import evaluate
from lf.runs import training_run
from lf.storage import checkpoint
from lf.train import train

pytestmark = pytest.mark.slow

CASE = [LATENT, "schedule=cascaded", "batch=12", "dtype=float32", "flip=true", "ema=[0.9,0.5]", "steps=20"]
DRAWN = {"n": 30, "steps": 4, "solver": "heun_per_stream", "t_clip": 1e-3, "dtype": "float32"}
SWEEP = '''
"""Is one cell over many processes the same?"""
from sweeps.cells import Cell

def cells(launch):
    yield Cell({"case": "one"}, launch.train(), launch.evaluate())
'''


def test_two_nodes_with_two_tasks_each_train_and_draw_what_one_process_does(
    cluster: Cluster, judged: Judged, tmp_path: Path
) -> None:
    judged(tmp_path / "runs")
    (tmp_path / "together.py").write_text(SWEEP)
    given = [*WORDS, *CASE, *PLAIN, *(f"evaluation.{key}={value}" for key, value in DRAWN.items())]
    shape = ["cluster.train.nodes=2", "cluster.train.tasks=2", "cluster.evaluate.tasks=2"]
    words = ["together.py", "--executor=slurm", f"runtime.runs={tmp_path}/runs", *given, *shape]
    launch = [sys.executable, "-m", "sweeps.launch", *words]
    done = subprocess.run(launch, env=cluster.env, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr

    manifest = json.loads((tmp_path / "runs" / "sweeps" / "together" / "sweep.json").read_text())
    units = {unit["kind"]: unit for unit in manifest["units"]}
    jobs = {kind: json.loads((tmp_path / "runs" / "jobs" / units[kind]["key"] / "job.json").read_text())["job"]
            for kind in units}  # fmt: skip
    trained, drawn = cluster.show(jobs["train"]), cluster.show(jobs["evaluate"])
    assert (trained["NodeList"], trained["NumNodes"], trained["NumTasks"]) == ("n[1-2]", "2", "4")
    assert (drawn["NumNodes"], drawn["NumTasks"]) == ("1", "2")
    began = (tmp_path / "runs" / "jobs" / units["train"]["key"] / "attempts.jsonl").read_text()
    assert began.count('"began"') == began.count('"ended"') == 1, "only the first process takes notes"

    alone = training(*CASE, f"runtime.runs={tmp_path}/alone")
    train(alone)
    here, there = training_run(alone), tmp_path / "runs" / "training" / units["train"]["training"]
    assert there.name == here.id
    assert json.loads((there / "row.json").read_text())["processes"] == 4
    one, other = (checkpoint.read(folder / checkpoint.NAME)[0] for folder in (here.folder, there))
    torch.testing.assert_close(other["losses"], one["losses"], rtol=1e-5, atol=1e-7)

    shutil.copytree(tmp_path / "runs" / "cache", tmp_path / "alone" / "cache", dirs_exist_ok=True)
    # both draw from the same weights, so that only the number of processes differs
    (here.folder / checkpoint.NAME).write_bytes((there / checkpoint.NAME).read_bytes())
    expected = evaluate(here, parse(Evaluation, DRAWN | {"features": ["judge"]}))
    row = json.loads((tmp_path / "runs" / units["evaluate"]["rows"][0]).read_text())
    assert row["id"] == expected["id"]
    for score in ("fd", "class_accuracy"):
        assert row[score] == pytest.approx(expected[score], rel=1e-5), score
