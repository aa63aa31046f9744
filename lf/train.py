"""`python -m lf.train [preset=shapes] [key=value …]`: trains one network; the same command resumes it.

    python -m lf.train latents=tiny schedule=cascaded
    python -m lf.train preset=lf_l_imagenet256 data=shards:PATH --dry-run
    torchrun --nproc_per_node 8 -m lf.train preset=lf_l_imagenet256
    python -m lf.train init=RUN data=folder:PATH steps=500

``init=RUN`` begins with the weights of another run: its identity, cell or folder, also one of ``lf.convert``.
``--dry-run`` prints the recipe and its cost, executes one step of two images on the CPU, and trains nothing;
``--dry-run=500`` forecasts the GPU-hours at 500 images per second.

Under ``torchrun``, or several tasks of a SLURM job, the processes share every batch. Every draw is a function of (seed,
step), so an interrupted run resumes bit for bit from its last checkpoint, on any number of processes.
"""

import signal
import sys
import time
import warnings
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lf import data
from lf.config import Training
from lf.config.cli import config_over_preset
from lf.core import preemption
from lf.core.cli import run_command
from lf.core.distributed import World, join
from lf.core.errors import UserError
from lf.data.loader import Damaged, batches
from lf.encoders.cache import attach
from lf.model.denoiser import LatentForcing
from lf.runs import TrainingRun, last_checkpoint, most_similar, note_length, shorter, training_run
from lf.schedules import Times
from lf.storage import checkpoint
from lf.training.dry_run import dry_run
from lf.training.logger import Logger
from lf.training.step_inputs import step_inputs
from lf.training.warm_start import start, trunk_of


def train(config: Training) -> dict[str, Any]:
    """Trains a network, or resumes its training, and returns the run's row; a finished run is not repeated.

    Raises:
        UserError: something that the training needs is missing or does not fit, or the loss is not a number.
        lf.core.preemption.Stopped: a stop was requested; the checkpoint is saved.
    """
    run = training_run(config)
    world = join(config.runtime.torch_device)  # a wrong device fails before anything is written
    if config.batch % world.size:
        raise UserError(f"batch={config.batch}: must be a multiple of the number of processes, {world.size}")
    if config.init.name and run.row is None and last_checkpoint(run) is None:
        trunk_of(config)  # so does a run to begin from that is missing or does not fit
    with run.held() if world.rank == 0 else nullcontext():
        row = world.share(run.row)
        return row or world.share(_train(run, world))


def _train(run: TrainingRun, world: World) -> dict[str, Any]:
    config, folder, device = run.training, run.folder, world.device
    runtime = config.runtime
    runtime.apply()

    # Data, and the latents of its images: cached, or encoded batch by batch.
    images = data.open(config.data, config.resolution, runtime.cache, runtime.limit_damaged)
    images, encode = attach(images, config.encoders, config.network.patch, runtime.cache, config.flip, runtime.latents)
    encode = encode and [e.to(device) for e in encode]

    # Network. Weights of another run, if asked for.
    torch.manual_seed(config.seed)
    model = LatentForcing(config, len(images.classes)).to(device)
    last = world.share(last_checkpoint(run))  # the same for all, also if a shorter training ends at this moment
    if config.init.name and last is None:
        told = start(model.network, config)
        if world.rank == 0:
            print(told, file=sys.stderr)

    # Averages of its weights, optimizer. All of it from the checkpoint where there is one.
    emas = [deepcopy(model.network).requires_grad_(False) for _ in config.ema]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, betas=(0.9, 0.95), weight_decay=config.weight_decay, fused=True
    )
    begun_at, losses, seconds = 0, torch.zeros(config.steps, 1 + len(model.streams)), 0.0
    if last:
        begun_at, done, seconds = checkpoint.restore(last, model.network, emas, optimizer)
        losses[:begun_at] = done[:begun_at]
        if world.rank == 0:
            other = "" if last == folder else f", the end of {last.name}"
            print(f"training {run.id}: resumes at step {begun_at}{other}", file=sys.stderr)
    losses = losses.to(device)  # on the device: only log lines synchronise with it

    # Compilation, and the processes that share every batch.
    if runtime.compile:
        model.compile_blocks()
    step_of: nn.Module = model
    if world.size > 1:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # the new name is not in torch 2.6
            step_of = DistributedDataParallel(model, broadcast_buffers=False)
    share = config.batch // world.size
    parts = torch.arange(share).split(runtime.micro_batch or share)

    # The loop: every draw is a function of (seed, step), so it starts at any step.
    loader = batches(
        images, config.batch, range(begun_at, config.steps), config.seed,
        flip=config.flip, rank=world.rank, world=world.size, workers=runtime.workers,
    )  # fmt: skip
    damaged, log = Damaged(runtime.limit_damaged), Logger(run, world, model, begun_at, seconds)
    saved = time.monotonic()
    for step, batch in enumerate(loader, begun_at):
        for name in damaged.see(batch):
            print(f"warning: {name}: skipped", file=sys.stderr)

        # Gradients, accumulated over micro-batches.
        x, noise, times, y, align = step_inputs(config, step, batch, model.classes, encode, world)
        loss = torch.zeros(losses.shape[1], device=device)
        for part in parts:
            p = slice(int(part[0]), int(part[-1]) + 1)
            some = [a[p] for a in x], [e[p] for e in noise], Times(*(a[p] for a in times)), y[p]
            together = part is parts[-1] or world.size == 1  # all-reduce the gradients once per step
            with nullcontext() if together else step_of.no_sync():  # type: ignore[operator]
                some_loss = step_of(*some, align=None if align is None else align[p]) * (len(part) / share)
                some_loss[0].backward()
            loss += some_loss.detach()

        # Step of the optimizer and of the averages.
        if config.clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(step)
        optimizer.step()
        optimizer.zero_grad()
        for ema, decay in zip(emas, config.ema, strict=True):
            average(ema, model.network, config.init.decay(decay, step))
        losses[step] = world.mean(loss)

        # Log, checkpoint, and a stop if one is requested.
        log.step(step + 1, losses)
        if world.rank == 0 and (preemption.asked() or time.monotonic() - saved > runtime.checkpoint_seconds):
            if preemption.asked() != preemption.LOST:
                checkpoint.save(folder, model.network, emas, optimizer, step + 1, losses, log.seconds)
            if preemption.asked():
                raise preemption.Stopped(preemption.asked())
            saved = time.monotonic()

    if world.rank:
        return {}  # rank 0 has the row
    checkpoint.save(folder, model.network, emas, optimizer, config.steps, losses, log.seconds)
    note_length(run)
    return run.finish({**log.close(losses), "classes": list(images.classes)})


@torch.no_grad()
def average(ema: nn.Module, network: nn.Module, decay: float) -> None:
    """``ema ← decay · ema + (1 - decay) · network``, for all weights at once.

    Like torch's `AveragedModel`, but without its step counter, whose copy to the device would synchronise every step.
    """
    torch._foreach_lerp_(list(ema.parameters()), list(network.parameters()), 1 - decay)


def _told(run: TrainingRun) -> str:
    """That a training is a new one, and what its most similar one is; empty if there is nothing to say."""
    other = most_similar(run) if run.state == "new" else None
    if other is None or not other.changes:
        return ""
    if shorter(run):
        return ""  # it says that it resumes
    if other.changes.keys() == {"steps"}:
        more = f"; steps={other.changes['steps'][0]} continues it" if other.run.state == "begun" else ""
        return f"training {run.id}: is new; {other.run.id} differs only in {other.told}, and is not continued{more}"
    return f"training {run.id}: is new; the most similar one, {other.run.id}, differs in {other.told}"


def main(argv: list[str]) -> None:
    dry = next((word for word in argv if word.partition("=")[0] == "--dry-run"), None)
    config = config_over_preset([word for word in argv if word != dry], Training, "training", __doc__)
    if dry:
        rate = dry.partition("=")[2] or "0"
        if not rate.isdigit():
            raise UserError(f"{dry}: needs a number of images per second, such as --dry-run=500")
        dry_run(config, float(rate))
        return
    if join(config.runtime.torch_device).rank == 0 and (told := _told(training_run(config))):
        print(told, file=sys.stderr)
    with preemption.on(signal.SIGINT, signal.SIGTERM):
        row = train(config)
    folder = Path(config.runtime.runs) / "training" / row["id"]
    if join(config.runtime.torch_device).rank == 0:
        print(f"done: {folder}  loss {row['loss']:.4f}  {row['seconds']:.0f} s")


if __name__ == "__main__":
    run_command(main)
