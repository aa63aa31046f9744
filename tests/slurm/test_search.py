"""Searches whose workers are jobs: one for guidance, one of whose jobs is killed; one for an order that loses nodes."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from disturbed import Place
from killing import legs
from searches import ORDER
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


def test_a_search_for_an_order_survives_the_loss_of_nodes(cluster: Cluster, judged: Judged, tmp_path: Path) -> None:
    with closing(Place(tmp_path, cluster, judged)) as place:
        words = [*ORDER, "trials=4", "workers=2", "executor=slurm", f"runtime.runs={place.runs}"]
        command = place.start("-m", "sweeps.order", *words)

        def units(kind: str) -> list[dict[str, Any]]:
            found = [file.parent.name for file in place.runs.glob("sweeps/order-*/sweep.json")]
            return [unit for name in found for unit in place.units(name) if unit["kind"] == kind]

        def running(kind: str) -> str:
            """The node of some task of this kind that is in the middle of its work."""
            last = [(place.attempts(unit) or [{}])[-1] for unit in units(kind)]
            return next((line["node"] for line in last if "began" in line), "")

        def lose(kind: str, begun: int) -> None:
            """Stops a node that runs such a task when so many trainings were begun."""
            cluster.wait(lambda: not command.runs or (len(legs(place.runs)) >= begun and running(kind)), PATIENCE)
            assert command.runs, command.output.read_text()
            node = running(kind) or "n1"
            cluster.stop_node(node)
            cluster.start_node(node)

        (place.runs / "training").mkdir()
        lose("search", 2)  # the trunk, and the first order
        lose("train", 6)  # all orders, and one that is trained on
        said = command.end()
        assert "best order: " in said

        (file,) = place.runs.glob("sweeps/order-*/trials-4.jsonl")
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        assert [(row["trial"], row["state"]) for row in rows] == [(number, "complete") for number in range(4)]
        cells = json.loads((file.parent / "sweep.json").read_text())["cells"]
        assert len(cells) == 4 + 2 + 3 and all(
            place.there(unit) for kind in ("train", "evaluate") for unit in units(kind)
        )
        begun = legs(place.runs)
        assert len(begun) == 1 + 4 + 2 + 2  # the trunk, and one training for each cell but that of the fresh noise
        # A node runs two workers, or two trainings.
        assert sum(begun.values()) <= len(begun) + 2 * 2, begun
        jobs = [attempts for unit in units("train") if (attempts := place.attempts(unit))]  # workers train the others
        assert len(jobs) >= 2 + 2, jobs
        assert all(sum(line.get("outcome") == "done" for line in attempts) == 1 for attempts in jobs), jobs
