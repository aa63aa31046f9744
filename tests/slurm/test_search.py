"""A guidance search whose workers are jobs, with a weaker network as guide; one job is killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import Cluster
from toy import LATENT, PATIENCE, Judged, training

from lf.runs import training_run
from lf.train import train

pytestmark = pytest.mark.slow


def test_a_search_on_the_cluster_finishes_every_trial_once(cluster: Cluster, judged: Judged, tmp_path: Path) -> None:
    store = judged(tmp_path / "runs")
    strong, weak = (
        training(LATENT, "schedule=cascaded", f"steps={steps}", f"runtime.runs={store}") for steps in (60, 20)
    )
    train(strong)
    train(weak)
    guide = training_run(weak).id
    words = [training_run(strong).id, f"guide={guide}", "scale=[1,2,0.5]", "begin=0", "end=1", "shift=1", "grid=2"]
    words += ["evaluation.n=64", "evaluation.steps=4", "trials=12", "workers=2", "--executor=slurm"]
    words += [f"runtime.runs={store}", "runtime.compile=false", "runtime.threads=1"]
    command = subprocess.Popen(
        [sys.executable, "-m", "sweeps.guidance", *words],
        env=cluster.env, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    cluster.wait(lambda: command.poll() is not None or any(store.glob("jobs/*/job.json")))
    jobs = [json.loads(file.read_text())["job"] for file in store.glob("jobs/*/job.json")]
    cluster.wait(lambda: command.poll() is not None or cluster.squeue(jobs[0]).get(jobs[0]) == "RUNNING")
    cluster.run("scancel", "--signal=KILL", "--full", jobs[0])
    cluster.wait(lambda: cluster.squeue(jobs[0]).get(jobs[0]) in ("FAILED", "CANCELLED"))
    out, _ = command.communicate(timeout=PATIENCE)
    assert command.returncode == 0, out

    (file,) = store.glob("sweeps/guidance-*/trials-12.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["trial"] for row in rows] == list(range(12)) and {row["state"] for row in rows} == {"complete"}
    assert {row["point"]["kind"] for row in rows} == {"cfg", "autoguidance", "cfg_then_autoguidance"}
    drawn = {file.parent.name: json.loads(file.read_text()) for file in store.glob("evaluation/*/config.json")}
    guides = {drawn[row["evaluation"]]["guidance"]["guide"] for row in rows if row["point"]["kind"] == "autoguidance"}
    assert guides - {""} == {guide}
