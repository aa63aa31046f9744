"""What the tests of the doors share: a training of a second, and commands run as a user runs them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lf import data
from lf.config import Training
from lf.config.cli import config_over_preset
from lf.core.cli import run_command
from lf.core.distributed import World
from lf.data.loader import batches
from lf.encoders.cache import attach
from lf.model.denoiser import LatentForcing
from lf.runs import training_run
from lf.storage import checkpoint
from lf.train import train
from lf.training.step_inputs import step_inputs

WORDS = [
    "data=digits", "resolution=16", "batch=8", "steps=60", "lr=1e-3", "warmup=6", "ema=0.9",
    "network.depth=1", "network.width=32", "network.heads=2", "network.bottleneck=16", "network.patch=4",
]  # fmt: skip
LATENT = "latents=[{name: pixels, cells: 2}]"
Judged = Callable[[Path], Path]  # the fixture that gives a run store its judge
PATIENCE = 1500  # seconds until something counts as hanging: a slow machine is no fault
PLAIN = ["runtime.compile=false", "runtime.threads=1"]


def training(*words: str) -> Training:
    """The toy training with changes."""
    return config_over_preset([*WORDS, *PLAIN, *words], Training, "training", None)


def stop_after(config: Training, step: int) -> None:
    """Trains it up to the checkpoint after ``step`` steps, where it is cut off; it must save one after every step."""
    save = checkpoint.save

    class Enough(Exception):
        pass

    def save_then_stop(*args: Any) -> None:
        save(*args)
        if args[4] == step:
            raise Enough

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Enough):
        patch.setattr(checkpoint, "save", save_then_stop)
        train(config)
    assert checkpoint.read(training_run(config).folder / checkpoint.NAME)[1] == step


def start(module: str, *words: str, **options: Any) -> subprocess.Popen[str]:
    """Starts ``python -m module words`` in a process group of its own."""
    command = [sys.executable, "-m", module, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(command, text=True, start_new_session=True, **(pipes | options))


def run(module: str, *words: str, **options: Any) -> tuple[int, str, str]:
    """Runs it to its end: exit code, stdout, stderr."""
    process = start(module, *words, **options)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def refusal(main: Callable[[list[str]], None], words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command refuses ``words``; fails unless it is one line and exit code 2."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["command", *words])
        run_command(main)
    out, err = capsys.readouterr()
    assert stop.value.code == 2, (out, err)
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in out + err, err
    return err


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below ``folder`` with its time and content."""
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes()) for file in found}


def first_loss(model: LatentForcing, config: Training) -> float:
    """A network's loss on the first batch of a training, with that training's settings."""
    model.config, runtime = config, config.runtime
    images = data.open(config.data, config.resolution, runtime.cache, runtime.limit_damaged)
    images, encode = attach(images, config.encoders, config.network.patch, runtime.cache, config.flip, runtime.latents)
    batch = next(iter(batches(images, config.batch, range(1), config.seed, flip=False, rank=0, world=1, workers=0)))
    with torch.no_grad():
        inputs = step_inputs(config, 0, batch, model.classes, encode, World(0, 1, torch.device("cpu")))
        return float(model.loss(*inputs)[0])
