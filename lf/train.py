"""`python -m lf.train [preset=shapes] [key=value …]`: trains one network; the same command again continues or is done.

Every draw is a function of (seed, step), so a run that was stopped goes on bit by bit from its last checkpoint.
"""

import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from lf import checkpoint, data
from lf.command import config_from, door
from lf.config import Training
from lf.denoiser import Denoiser
from lf.encoders import Encoder
from lf.errors import UserError
from lf.files import replace
from lf.runs import training_run
from lf.seeds import generator

LOG_EVERY = 50  # steps


def train(config: Training) -> dict[str, Any]:
    """Trains ``config`` unless that is done already; returns the run's row."""
    run = training_run(config)
    config.runtime.torch_device  # noqa: B018 (a wrong device is said before anything is written)
    with run.held():
        return run.row or run.finish(_train(config, run.folder))


def _train(config: Training, folder: Path) -> dict[str, Any]:
    runtime, device = config.runtime, config.runtime.torch_device
    runtime.apply()
    cache = Path(runtime.runs) / "cache"
    images = data.load(config.data, config.resolution, "train", cache)
    streams = encode(config, config.latents, images, cache)
    align = encode(config, (config.repa,), images, cache)[1] if config.repa else None

    torch.manual_seed(config.seed)
    model = Denoiser(config, len(images.classes)).to(device)
    ema = AveragedModel(model.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, betas=(0.9, 0.95), weight_decay=config.weight_decay, fused=True
    )
    step, losses = 0, torch.zeros(config.steps, 1 + len(streams))
    if (folder / "checkpoint.safetensors").exists():
        step, losses = checkpoint.restore(folder / "checkpoint.safetensors", model.network, ema, optimizer)
    losses = losses.to(device)  # stays there: only a log line waits for the device
    if runtime.compile:
        model.compile_blocks()

    began = saved = time.monotonic()
    begun_at = step
    board = SummaryWriter(folder, purge_step=step)
    bar = tqdm(total=config.steps, initial=step, desc=f"train {folder.name}", unit="step", disable=None)
    while step < config.steps:
        draw = generator("step", config.seed, step)
        rows = batch_rows(len(images), config.batch, step, config.seed)
        x = [stream[rows].to(device, non_blocking=True) for stream in streams]
        noise = [torch.randn(a.shape, generator=draw).to(device, non_blocking=True) for a in x]
        dropped = torch.rand(config.batch, generator=draw) < config.label_dropout
        y = images.labels[rows].masked_fill(dropped, len(images.classes)).to(device, non_blocking=True)
        times = config.schedule.sample(config.batch, generator=draw)
        times = type(times)(*(part.to(device, non_blocking=True) for part in times))

        loss = model.loss(x, noise, times, y, align=None if align is None else align[rows].to(device))
        loss[0].backward()
        for group in optimizer.param_groups:
            group["lr"] = config.lr * min(1.0, (step + 1) / max(config.warmup, 1))
        optimizer.step()
        optimizer.zero_grad()
        ema.update_parameters(model.network)
        losses[step] = loss.detach()
        step += 1
        bar.update()

        if step % LOG_EVERY == 0 or step == config.steps:
            mean = losses[max(step - LOG_EVERY, 0) : step].mean(0).tolist()
            if not all(value == value for value in mean):
                raise UserError(f"training {folder.name}: loss is not a number at step {step}; try a smaller lr")
            bar.set_postfix(loss=f"{mean[0]:.4f}")
            for name, value in zip(("loss", *(s.name for s in model.streams)), mean, strict=True):
                board.add_scalar(f"loss/{name}" if name != "loss" else name, value, step)
            replace(folder / "progress", str(step))
        if time.monotonic() - saved > runtime.checkpoint_seconds:
            checkpoint.save(folder / "checkpoint.safetensors", model.network, ema, optimizer, step, losses)
            saved = time.monotonic()
    bar.close()
    board.close()
    checkpoint.save(folder / "checkpoint.safetensors", model.network, ema, optimizer, step, losses)
    seconds = time.monotonic() - began
    return {
        "loss": losses[-LOG_EVERY:].mean(0)[0].item(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": seconds,
        "seconds_per_step": seconds / max(step - begun_at, 1),
    }


def encode(config: Training, encoders: Sequence[Encoder], images: data.Images, cache: Path) -> list[Tensor]:
    """A data set as streams, on the CPU: pixels in [-1, 1], then each encoder's latents."""
    pixels = data.to_float(images.images)
    loaded = [encoder.load(images, config.network.patch, cache) for encoder in encoders]
    with torch.no_grad():
        return [pixels, *(torch.cat([encode(part) for part in pixels.split(500)]) for encode in loaded)]


def batch_rows(n: int, batch: int, step: int, seed: int) -> Tensor:
    """Rows of step ``step`` in an endless run of shuffled epochs: every row once an epoch."""
    places = range(step * batch, (step + 1) * batch)
    return torch.stack([_order(n, place // n, seed)[place % n] for place in places])


@lru_cache(maxsize=2)
def _order(n: int, epoch: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=generator("epoch", seed, epoch))


def main(argv: list[str]) -> None:
    config = config_from(argv, Training, "training", __doc__)
    row = train(config)
    print(f"done: {training_run(config).folder}  loss {row['loss']:.4f}  {row['seconds']:.0f} s")


if __name__ == "__main__":
    door(main)
