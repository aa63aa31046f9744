"""A sweep of three streams, along points from a file, as jobs of a real cluster."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cluster import Cluster
from three import LATENTS, POINTS, SWEEP
from toy import PATIENCE, PLAIN, WORDS, Judged, training

from lf.runs import training_run
from lf.storage import checkpoint
from lf.train import train

pytestmark = pytest.mark.slow


def test_three_streams_are_swept_on_the_cluster(cluster: Cluster, judged: Judged, tmp_path: Path) -> None:
    runs = judged(tmp_path / "runs")
    (tmp_path / "path.yaml").write_text(POINTS)
    (tmp_path / "three.py").write_text(SWEEP)
    given = [*WORDS, *PLAIN, LATENTS, "evaluation.n=20", f"runtime.runs={runs}", "--executor=slurm"]
    words = [sys.executable, "-m", "sweeps.launch", "three.py", *given]
    done = subprocess.run(words, env=cluster.env, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((runs / "sweeps" / "three" / "sweep.json").read_text())
    for unit in manifest["units"]:
        job = json.loads((runs / "jobs" / unit["key"] / "job.json").read_text())["job"]
        assert cluster.show(job)["JobState"] == "COMPLETED"
    rows = [json.loads((runs / "evaluation" / cell["evaluation_id"] / "row.json").read_text())
            for cell in manifest["cells"]]  # fmt: skip
    assert rows[1]["path"]["order"] == [["pixels"], ["tiny", "pixels_latent"]]
    assert torch.tensor([row["fd"] for row in rows]).isfinite().all()

    file = str(tmp_path / "path.yaml")
    alone = training(
        LATENTS, "schedule=points", f"schedule.points={file}", f"runtime.runs={judged(tmp_path / 'alone')}"
    )
    train(alone)
    here, (there,) = training_run(alone), {cell["training_id"] for cell in manifest["cells"]}
    assert here.id == there, "the cluster's training is the one of this machine"
    one, other = (checkpoint.read(folder / checkpoint.NAME)[0]["losses"]
                  for folder in (here.folder, runs / "training" / there))  # fmt: skip
    torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4)
