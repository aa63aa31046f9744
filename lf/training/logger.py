"""Logs of a training: progress, TensorBoard curves, Weights & Biases."""

import json
import math
import time
from contextlib import ExitStack
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from lf.config import Training
from lf.core.distributed import World
from lf.core.errors import NotANumberError, UserError
from lf.core.stages import stage
from lf.model.denoiser import LatentForcing
from lf.runs import TrainingRun
from lf.storage.atomic import replace
from lf.training.flops import forward_flops, matmul_rate

LOG_EVERY = 50  # steps


class Logger:
    """Logs a training: a progress bar (without a terminal, a line per minute), curves, and a progress file.

    Args:
        run: the training.
        world: its processes.
        model: its network.
        begun_at: steps of earlier legs.
        spent: seconds of earlier legs; steps that were done again after a stop count once.
    """

    def __init__(self, run: TrainingRun, world: World, model: LatentForcing, begun_at: int, spent: float = 0.0):
        config, self.run, self.world = run.training, run, world
        self.names = ["loss", *(f"loss/{stream.name}" for stream in model.streams)]
        self.parameters = sum(p.numel() for p in model.parameters())
        self.began, self.begun_at, self.said = time.monotonic(), begun_at, time.monotonic()
        self.last, self.spent = (self.began, begun_at), spent
        if world.rank:
            return
        self.flops = 3 * forward_flops(model.network) * config.batch  # per step
        self.peak = matmul_rate(world.device, config.dtype) * world.size
        if config.runtime.wandb:
            _wandb(config, run)
        self.board = SummaryWriter(run.folder, purge_step=begun_at)
        title = f"train {run.id}"
        what = "compiles the network" if config.runtime.compile else "makes the first step"
        self.first = ExitStack()  # until the first step is done
        self.first.enter_context(stage(what))
        self.bar = tqdm(total=config.steps, initial=begun_at, desc=title, unit="step", disable=None)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, all legs together."""
        return self.spent + time.monotonic() - self.began

    def step(self, step: int, losses: torch.Tensor) -> None:
        """Logs that ``step`` steps are done. Raises `NotANumberError` if the loss is none."""
        config = self.run.training
        if self.world.rank == 0:
            self.first.close()
            self.bar.update()
        if step % LOG_EVERY and step != config.steps:
            return
        mean = losses[max(step - LOG_EVERY, 0) : step].mean(0).tolist()
        if not all(math.isfinite(value) for value in mean):
            raise NotANumberError(f"training {self.run.id}: loss is not a number at step {step}; try a smaller lr")
        if self.world.rank:
            return
        now = time.monotonic()
        a_step = (now - self.last[0]) / max(step - self.last[1], 1)
        self.last = now, step
        speed = {"images_per_second": config.batch / a_step, "mfu": self.flops / a_step / self.peak}
        for name, value in (*zip(self.names, mean, strict=True), ("lr", config.lr_at(step - 1)), *speed.items()):
            self.board.add_scalar(name, value, step)
        said = f"loss {mean[0]:.4f}, {speed['images_per_second']:.1f} img/s, MFU {speed['mfu']:.0%}"
        self.bar.set_postfix_str(said)
        if self.bar.disable and (now - self.said > 60 or step == config.steps):
            left = time.strftime("%H:%M:%S", time.gmtime(a_step * (config.steps - step)))
            print(f"train {self.run.id}: step {step}/{config.steps}, {said}, {left} left", flush=True)
            self.said = now
        told = {"step": step, "loss": mean[0], "seconds_per_step": a_step}
        replace(self.run.folder / "progress", json.dumps(told))

    def close(self, losses: torch.Tensor) -> dict[str, Any]:
        """Closes the logs and returns the run's row."""
        self.bar.close()
        self.board.close()
        seconds, steps = self.seconds, len(losses) - self.begun_at
        speed = (seconds - self.spent) / steps if steps else seconds / len(losses)
        return {
            "loss": losses[-LOG_EVERY:].mean(0)[0].item(),
            "parameters": self.parameters,
            "seconds": seconds,
            "seconds_per_step": speed,
            "processes": self.world.size,
        }


def _wandb(config: Training, run: TrainingRun) -> None:
    try:
        import wandb
    except ImportError:
        raise UserError("runtime.wandb: the package wandb is not installed; pip install wandb") from None
    wandb.init(project=config.runtime.wandb, id=run.id, config=run.config, resume="allow", sync_tensorboard=True)
