"""Training: it learns, it goes on where it was stopped, and what is done is not done again."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toy import LATENT, PATIENCE, PLAIN, WORDS, refusal, run, start, training

from lf.config import Training
from lf.model.denoiser import LatentForcing
from lf.runs import training_run
from lf.schedules import Times
from lf.storage import checkpoint
from lf.train import main, train

CASCADED = [LATENT, "schedule=cascaded"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A finished training, made without a stop."""
    config = training(*CASCADED, f"runtime.runs={tmp_path_factory.mktemp('runs')}")
    train(config)
    return config


def saved(config: Training) -> dict[str, Tensor]:
    return checkpoint.read(training_run(config).folder / "checkpoint.safetensors")[0]


@pytest.mark.slow
def test_killed_and_started_again_it_ends_bit_by_bit_as_if_it_had_not_been(done: Training, tmp_path: Path) -> None:
    words = [*WORDS, *PLAIN, *CASCADED, f"runtime.runs={tmp_path}", "runtime.checkpoint_seconds=1e-6"]
    run_of = training_run(training(*CASCADED, f"runtime.runs={tmp_path}"))
    file = run_of.folder / "checkpoint.safetensors"

    process = start("lf.train", *words)
    deadline = time.monotonic() + PATIENCE
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and run_of.row is None and run_of.state == "begun"
    assert 0 < checkpoint.read(file)[1] < done.steps

    code, out, err = run("lf.train", *words)
    assert code == 0 and "done" in out, err
    again, whole = saved(training(*CASCADED, f"runtime.runs={tmp_path}")), saved(done)
    assert again.keys() == whole.keys()
    assert not [name for name in whole if not again[name].equal(whole[name])]
    assert run_of.row and run_of.row["loss"] == training_run(done).row["loss"]  # type: ignore[index]


def test_the_same_command_again_trains_nothing(done: Training, capsys: pytest.CaptureFixture[str]) -> None:
    folder = training_run(done).folder
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir() if file.name != "lock"}
    main([*WORDS, *PLAIN, *CASCADED, f"runtime.runs={done.runtime.runs}"])
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in before} == before
    assert len(list(folder.glob("events*"))) == 1
    assert f"done: {folder}" in capsys.readouterr().out


def test_the_loss_falls(done: Training) -> None:
    losses = saved(done)["losses"]
    assert losses.shape == (60, 3) and losses.isfinite().all() and (losses > 0).any(0).all()
    assert losses[-20:, 0].mean() < 0.85 * losses[:20, 0].mean()


def test_the_average_of_the_weights_follows_its_formula(tmp_path: Path) -> None:
    words = ["steps=1", "warmup=0", "ema=[0.9,0.5]", f"runtime.runs={tmp_path}"]
    one, two = training(*words), training(*words, "steps=2")
    train(one)
    train(two)
    first, second = saved(one), saved(two)
    names = [name.removeprefix("raw.") for name in first if name.startswith("raw.")]
    assert names
    for name in names:  # it starts at the weights of the first step
        torch.testing.assert_close(first[f"ema.{name}"], first[f"raw.{name}"], rtol=0, atol=0)
        for ema, decay in (("ema", 0.9), ("ema2", 0.5)):
            expected = decay * first[f"raw.{name}"] + (1 - decay) * second[f"raw.{name}"]
            torch.testing.assert_close(second[f"{ema}.{name}"], expected, rtol=1e-6, atol=1e-8)
    assert any(not second[f"ema.{name}"].equal(second[f"raw.{name}"]) for name in names)


@pytest.mark.parametrize("harm", ["truncated", "garbage", "empty"])
def test_an_unreadable_checkpoint_is_one_line_and_stays_as_it_is(
    done: Training, harm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (training_run(done).folder / "checkpoint.safetensors").read_bytes()
    bad = {"truncated": good[: len(good) // 2], "garbage": b"not a checkpoint" * 99, "empty": b""}[harm]
    words = [*WORDS, *PLAIN, *CASCADED, f"runtime.runs={tmp_path}"]
    shutil.copytree(Path(done.runtime.runs) / "cache", tmp_path / "cache")
    run_of = training_run(training(*CASCADED, f"runtime.runs={tmp_path}"))
    run_of.folder.mkdir(parents=True)
    file = run_of.folder / "checkpoint.safetensors"
    file.write_bytes(bad)
    assert str(file) in refusal(main, words, capsys)
    assert file.read_bytes() == bad and run_of.row is None


def test_a_loss_that_is_not_a_number_is_an_error_not_a_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, *PLAIN, f"runtime.runs={tmp_path}", "lr=1e30"]
    assert "not a number" in refusal(main, words, capsys)
    assert training_run(training(f"runtime.runs={tmp_path}", "lr=1e30")).row is None


def test_repa_pulls_the_tapped_tokens_towards_the_encoder(tmp_path: Path) -> None:
    tap = ["repa={name: pixels, cells: 2}", "network.repa_block=0", "network.repa_width=12"]
    rows = [train(training(*tap, f"repa_weight={weight}", f"runtime.runs={tmp_path}")) for weight in (1e-6, 1)]
    # The logged loss holds λ(1 - cos): far more than nothing, and below the 1 of directions with nothing in common.
    assert 0.02 < rows[1]["loss"] - rows[0]["loss"] < 0.9


def test_an_expert_sees_the_images_that_its_loss_counts_and_all_numbers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LatentForcing(training(*CASCADED, "dtype=float32", "network.expert_width=32"), classes=10)
    for p in model.parameters():
        nn.init.normal_(p, std=0.2)
    x, noise = ([torch.randn(16, *s.shape) for s in model.streams] for _ in range(2))
    y = torch.zeros(16, dtype=torch.long)
    times = model.config.schedule.sample(16, generator=torch.Generator().manual_seed(0))
    seen: list[int] = []
    for branch in model.network.branches:
        branch.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))

    def losses_and_gradients() -> list[Tensor]:
        model.zero_grad()
        found = model.loss(x, noise, times, y)
        found[0].backward()
        return [found.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    routed = losses_and_gradients()
    assert seen == times.weight.count_nonzero(0).tolist() and min(seen) > 0 and sum(seen) == 16
    monkeypatch.setattr(model, "_active_rows", lambda *_: [torch.arange(16)] * 2)
    for some, all_of_them in zip(routed, losses_and_gradients(), strict=True):
        torch.testing.assert_close(some, all_of_them, rtol=1e-5, atol=1e-6)


def test_an_expert_that_no_image_needs_still_has_a_gradient() -> None:
    model = LatentForcing(training(*CASCADED, "network.expert_width=32"), classes=10)
    x, noise = ([torch.randn(4, *s.shape) for s in model.streams] for _ in range(2))
    times = Times(torch.full((4, 2), 0.5), torch.tensor([[0.0, 1.0]]).repeat(4, 1))
    model.loss(x, noise, times, torch.zeros(4, dtype=torch.long))[0].backward()
    assert all(p.grad is not None for p in model.parameters()), "else processes would wait for each other"


def test_a_damaged_image_counts_in_no_part_of_the_loss() -> None:
    tap = ["repa={name: pixels, cells: 2}", "network.repa_block=0", "network.repa_width=12"]
    model = LatentForcing(training(*tap, "dtype=float32"), classes=10)
    x, noise, align = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16), torch.randn(2, 12, 4, 4)
    t, weight, y = torch.full((2, 1), 0.5), torch.tensor([[1.0], [0.0]]), torch.zeros(2, dtype=torch.long)
    both = model.loss([x], [noise], Times(t, weight), y, align)
    one = model.loss([x[:1]], [noise[:1]], Times(t[:1], weight[:1]), y[:1], align[:1])
    torch.testing.assert_close(both, one / 2)
