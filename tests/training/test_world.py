"""Several processes are one: same losses, same row, going on from one to many and back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import submitit
import torch
from torch import Tensor
from toy import LATENT, PATIENCE, PLAIN, WORDS, Judged, stop_after, training

from lf.config import Evaluation, Training
from lf.core.errors import UserError
from lf.evaluate import evaluate
from lf.model.denoiser import LatentForcing
from lf.runs import training_run
from lf.storage import checkpoint, verified
from lf.train import train

# 12 images a step: a whole number for 1, 2 and 3 processes, and no whole number of steps an epoch
CASE = [LATENT, "schedule=cascaded", "batch=12", "dtype=float32", "flip=true", "ema=[0.9,0.5]"]


def together(processes: int, module: str, *words: str) -> None:
    """Runs a module under torchrun."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run([*torchrun, "-m", module, *words], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-3000:]


def tensors(config: Training) -> dict[str, Tensor]:
    return checkpoint.read(training_run(config).folder / checkpoint.NAME)[0]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Losses to 1e-5, weights and averages about as well."""
    torch.testing.assert_close(other["losses"], one["losses"], rtol=1e-5, atol=1e-7)
    for name in one:
        if name.startswith(("raw.", "ema.", "ema2.")):
            torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def alone(judged: Judged, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """The training by one process."""
    config = training(*CASE, f"runtime.runs={judged(tmp_path_factory.mktemp('alone'))}")
    train(config)
    return config


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "micro"), [(2, 0), (3, 3)])
def test_processes_and_micro_batches_change_no_loss(
    alone: Training, tmp_path: Path, processes: int, micro: int
) -> None:
    place = [f"runtime.runs={tmp_path}", f"runtime.micro_batch={micro}"]
    together(processes, "lf.train", *WORDS, *PLAIN, *CASE, *place)
    config = training(*CASE, *place)
    same(tensors(alone), tensors(config))
    row = training_run(config).row
    assert row and row["processes"] == processes and row["id"] == training_run(alone).id


@pytest.mark.slow
def test_a_warm_start_is_the_same_by_two_processes(alone: Training, tmp_path: Path) -> None:
    words = [*CASE, f"init={training_run(alone).folder}", "init.weights=ema2", "steps=20", "seed=1"]
    one, two = (training(*words, f"runtime.runs={tmp_path / name}") for name in ("one", "two"))
    train(one)
    together(2, "lf.train", *WORDS, *PLAIN, *words, f"runtime.runs={tmp_path / 'two'}")
    same(tensors(one), tensors(two))
    assert training_run(one).id == training_run(two).id


def test_gradients_are_accumulated_over_micro_batches(alone: Training, tmp_path: Path) -> None:
    config = training(*CASE, f"runtime.runs={tmp_path}", "runtime.micro_batch=5")
    train(config)
    same(tensors(alone), tensors(config))


def stopped(alone: Training, folder: Path, step: int) -> Training:
    """The same training, stopped after ``step`` steps."""
    config = training(*CASE, f"runtime.runs={folder}", "runtime.checkpoint_seconds=1e-6")
    stop_after(config, step)
    return config


def test_a_training_that_is_not_done_is_not_scored(alone: Training, tmp_path: Path) -> None:
    config = stopped(alone, tmp_path, 25)
    with pytest.raises(UserError, match="is not finished"):
        evaluate(training_run(config), Evaluation(n=4, steps=2, solver="heun_per_stream"))
    assert not any(tmp_path.glob("evaluation/*/row.json"))


@pytest.mark.slow
def test_stopped_in_an_epoch_it_goes_on_with_another_number_of_processes(alone: Training, tmp_path: Path) -> None:
    config = stopped(alone, tmp_path, 25)
    together(2, "lf.train", *WORDS, *PLAIN, *CASE, f"runtime.runs={tmp_path}")
    same(tensors(alone), tensors(config))


@pytest.mark.parametrize("step", [1, 37, 59])
def test_stopped_at_any_step_it_ends_bit_by_bit_the_same(alone: Training, tmp_path: Path, step: int) -> None:
    config = stopped(alone, tmp_path, step)
    _, about = verified.read(training_run(config).folder / checkpoint.NAME)
    row = train(config)
    assert row["seconds"] > float(about["seconds"]) > 0, "all legs count"
    this_leg = row["seconds"] - float(about["seconds"])
    assert row["seconds_per_step"] == pytest.approx(this_leg / (config.steps - step))
    one, other = tensors(alone), tensors(config)
    assert one.keys() == other.keys() and all(other[name].equal(one[name]) for name in one)


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(
    alone: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = stopped(alone, tmp_path, 30)
    file = training_run(config).folder / checkpoint.NAME
    file.write_bytes(file.read_bytes()[:1000])
    train(config)
    assert "resuming from previous.safetensors, step 29" in capsys.readouterr().err
    one, other = tensors(alone), tensors(config)
    assert all(other[name].equal(one[name]) for name in one)


def test_flipped_bytes_in_its_checkpoint_cost_only_the_steps_since_the_one_before(
    alone: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = stopped(alone, tmp_path, 30)
    file = training_run(config).folder / checkpoint.NAME
    harmed = bytearray(file.read_bytes())
    harmed[-9000:-5000] = b"\x7f" * 4000
    file.write_bytes(harmed)
    train(config)
    said = capsys.readouterr().err
    assert f"{file}: damaged: the digest of " in said and "resuming from previous.safetensors, step 29" in said
    one, other = tensors(alone), tensors(config)
    assert all(other[name].equal(one[name]) for name in one)


def test_a_done_training_is_not_scored_with_the_checkpoint_before_its_damaged_last_one(tmp_path: Path) -> None:
    config = training(f"runtime.runs={tmp_path}", "runtime.checkpoint_seconds=1e-6", "steps=4", "warmup=1")
    row, run = train(config), training_run(config)
    file = run.folder / checkpoint.NAME
    harmed = bytearray(file.read_bytes())
    harmed[-5] ^= 1  # in the network's weights, which stand last
    file.write_bytes(harmed)
    LatentForcing.from_pretrained(run.folder, "ema")  # not damaged
    damage = "the digest of raw differs.*; remove .*row[.]json and rerun its training, which resumes from previous"
    with pytest.raises(UserError, match=damage):
        LatentForcing.from_pretrained(run.folder, "raw")
    (run.folder / "row.json").unlink()
    assert train(config)["loss"] == row["loss"]
    LatentForcing.from_pretrained(run.folder, "raw")


@pytest.mark.slow
def test_an_evaluation_is_the_same_by_two_processes(alone: Training, judged: Judged, tmp_path: Path) -> None:
    how = {"n": 90, "steps": 4, "solver": "heun_per_stream"}
    one = evaluate(training_run(alone), Evaluation(**how))  # type: ignore[arg-type]
    folder, store = training_run(alone).folder, judged(tmp_path / "runs")
    plain = ["t_clip=0.05", "dtype=float32", *PLAIN]  # not the preset's
    words = [f"run={folder}", *(f"{k}={v}" for k, v in how.items()), *plain, f"runtime.runs={store}"]
    together(2, "lf.evaluate", *words, "runtime.batch=20")
    (row,) = store.glob("evaluation/*/row.json")
    other = json.loads(row.read_text())
    assert other["id"] == one["id"]
    scores = [key for key, value in one.items() if isinstance(value, float) and not key.startswith("seconds")]
    assert {"fd", "class_accuracy"} <= set(scores)
    assert {key: other[key] for key in scores} == pytest.approx({key: one[key] for key in scores}, rel=2e-3)


def test_a_batch_that_cannot_be_shared_is_one_line(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = [*WORDS, *PLAIN, "batch=7", f"runtime.runs={tmp_path}"]
    done = subprocess.run([*torchrun, "-m", "lf.train", *words], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode and "error: batch=7: must be a multiple of the number of processes, 2" in done.stderr
    assert not any(tmp_path.glob("training/*/checkpoint.safetensors"))


@pytest.mark.slow
def test_tasks_of_a_submitit_job_are_processes_of_one_training(alone: Training, tmp_path: Path) -> None:
    executor = submitit.AutoExecutor(tmp_path / "jobs" / "%j", cluster="local")
    executor.update_parameters(tasks_per_node=2, timeout_min=5)
    config = training(*CASE, f"runtime.runs={tmp_path}")
    job = executor.submit(train, config)
    assert [row["processes"] for row in job.results()] == [2, 2]
    same(tensors(alone), tensors(config))


def test_the_learning_rate_warms_up_and_falls() -> None:
    rates = {
        kind: [training("steps=100", "warmup=10", "lr=1", f"lr_schedule={kind}").lr_at(step) for step in range(100)]
        for kind in ("constant", "cosine", "linear")
    }
    for rate in rates.values():
        assert rate[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert set(rates["constant"][10:]) == {1.0}
    assert rates["linear"][10:] == pytest.approx([1 - i / 90 for i in range(90)])
    assert rates["cosine"][10] == 1 and rates["cosine"][55] == pytest.approx(0.5) and 0 < rates["cosine"][99] < 1e-3


def test_clipping_bounds_the_first_step(tmp_path: Path) -> None:
    """A first AdamW step hides the gradient's size, but its second moment keeps it: (1 - 0.95) g²."""
    norms = []
    for clip in (0, 1e-3):
        config = training(f"clip={clip}", "steps=1", f"runtime.runs={tmp_path}")
        train(config)
        moments = [v for k, v in tensors(config).items() if k.endswith("exp_avg_sq")]
        norms.append((sum(m.double().sum() for m in moments) / 0.05).sqrt().item())
    assert norms[0] > 1e-2 and norms[1] == pytest.approx(1e-3, rel=1e-3)
