"""A run store that version 0.1.0 left is read, resumed and analysed as that version did.

``store-0.1.tar.gz`` was made by commit 35c8ef2, the last before the code moved into folders::

    WORDS="data=digits resolution=16 batch=8 steps=60 lr=1e-3 warmup=6 ema=0.9 network.depth=1 network.width=16
           network.heads=2 network.bottleneck=8 network.patch=4 runtime.compile=false runtime.threads=1"
    python -m sweeps.launch order_ablation $WORDS evaluation.n=16 evaluation.steps=2 seeds=[0,1] workers=2
    python -m lf.train $WORDS latents=[{name: pixels, cells: 2}] schedule=cascaded seed=7 steps=1500   # stopped
    python -m sweeps.guidance ID --trials 4 evaluation.n=16 evaluation.steps=2 grid=2
    python -m lf.convert jit.pth converted data=digits network.class_token_block=0

and ``save_pretrained("hub")``. ``expected.safetensors`` holds the losses of the stopped training as that commit
finished it, and four images of each network. What can be made again (checkpoints of other cells, caches) was left out.
"""

import json
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import analysis
from analysis import tables
from lf import LatentForcing
from lf.config import Sampling
from lf.core.runtime import Runtime
from lf.runs import find_training, training_run
from lf.storage import checkpoint
from lf.train import train
from sweeps import launch, status

WORDS = [
    "data=digits", "resolution=16", "batch=8", "steps=60", "lr=1e-3", "warmup=6", "ema=0.9", "network.depth=1",
    "network.width=16", "network.heads=2", "network.bottleneck=8", "network.patch=4", "evaluation.n=16",
    "evaluation.steps=2", "seeds=[0,1]", "executor=local",
]  # fmt: skip
SWEEP = "order_ablation"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The unpacked store."""
    with tarfile.open(Path(__file__).with_name("store-0.1.tar.gz")) as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path / "store-0.1"


def test_every_cell_of_its_sweep_is_cached(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.launch(SWEEP, [*WORDS, f"runtime.runs={old}/runs"], dry_run=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if " seed " in line]
    assert len(lines) == 8 and all(" cached " in line for line in lines)


def test_its_status_is_read(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status.main([SWEEP, f"runs={old}/runs"])
    assert f"{SWEEP}: 36 of 36 cells done; jobs: 16 done" in capsys.readouterr().out


def test_its_tables_are_the_same_byte_for_byte(old: Path, tmp_path: Path) -> None:
    written = tables.write(analysis.load(SWEEP, old / "runs"), tmp_path / "tables")
    assert {file.name for file in written} == {"table.md", "table.tex", "table.csv", "pairs.csv"}
    for file in written:
        found = file.read_bytes()
        if file.name == "table.csv":  # it now names the runs, in two more columns
            found = without_last(2, found)
        if file.name == "pairs.csv":  # it now tells how many seeds would settle each difference, in one more column
            found = without_last(1, found)
        assert found == (old / "runs" / "reports" / SWEEP / file.name).read_bytes(), file.name


def without_last(columns: int, table: bytes) -> bytes:
    return b"".join(line.rsplit(b",", columns)[0] + b"\n" for line in table.splitlines())


def test_its_guidance_search_is_read(old: Path) -> None:
    (sweep,) = (old / "runs" / "sweeps").glob("guidance-*")
    frame = analysis.load(sweep.name, old / "runs")
    assert len(frame) == 4 and frame.fd.notna().all() and frame.trial.tolist() == [0, 1, 2, 3]


def test_a_training_that_it_stopped_is_resumed_to_the_same_end(old: Path) -> None:
    name = json.loads((old / "names.json").read_text())["interrupted"]
    run = find_training(name, Runtime(runs=str(old / "runs"), compile=False, threads=1))
    assert run.state == "begun" and training_run(run.training).id == name, "the same config, the same name"
    stopped_at = checkpoint.read(run.folder / checkpoint.NAME)[1]
    assert 300 < stopped_at < 1500
    assert train(run.training)["id"] == name
    losses = load_file(run.folder / checkpoint.NAME)["losses"]
    expected = load_file(old / "expected.safetensors")["losses"]
    assert losses[:stopped_at].equal(expected[:stopped_at])
    later, as_before = losses[stopped_at:].mean(0), expected[stopped_at:].mean(0)
    torch.testing.assert_close(later, as_before, rtol=0.02, atol=0)  # another CPU rounds otherwise


@pytest.mark.parametrize("place", ["converted", "hub", "cascaded"])
def test_its_folders_draw_the_same_images(place: str, old: Path) -> None:
    name = json.loads((old / "names.json").read_text())["cascaded"]
    folder = old / "runs" / "training" / name if place == "cascaded" else old / place
    images, _ = LatentForcing.from_pretrained(folder).images(range(4), Sampling(steps=4))
    expected = load_file(old / "expected.safetensors")["converted" if place == "converted" else "cascaded"]
    assert (images.int() - expected.int()).abs().max() <= 1, "a rounding apart at most"
