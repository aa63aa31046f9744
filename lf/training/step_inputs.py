"""The inputs of a training step: functions of (seed, step), for any number of processes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lf.config import Training
from lf.core.distributed import World
from lf.core.seeds import generator
from lf.data import Batch, to_float
from lf.encoders import Encode
from lf.schedules import Times


def step_inputs(
    config: Training, step: int, batch: Batch, null: int, encode: Sequence[Encode] | None, world: World
) -> tuple[list[Tensor], list[Tensor], Times, Tensor, Tensor | None]:
    """Clean streams, noise, times and weights, labels, and REPA's targets, for this process's share of a step.

    Noise, times and dropped labels are drawn for the whole batch and then sliced, so that they do not depend on the
    number of processes. A damaged image gets weight 0. The weights stay on the CPU, where `LatentForcing.loss` can read
    them without synchronising with the device.

    Args:
        config: the training.
        step: number of the step, from 0.
        batch: this process's images.
        null: the label that means "no label".
        encode: encoders of the latents (then REPA's); None if ``batch`` has cached latents.
        world: the processes that share the step.
    """
    device, share = world.device, config.batch // world.size
    mine = slice(world.rank * share, (world.rank + 1) * share)
    draw = generator("step", config.seed, step)
    noisy = draw if device.type == "cpu" else generator("step", config.seed, step, device=device)
    pixels = to_float(batch.images.to(device, non_blocking=True))
    with torch.no_grad():
        latents = [e(pixels) for e in encode] if encode else [a.to(device, non_blocking=True) for a in batch.latents]
    align = latents.pop() if config.repa else None
    x = [pixels, *latents]
    noise = [torch.randn(config.batch, *a.shape[1:], generator=noisy, device=device)[mine] for a in x]
    dropped = torch.rand(config.batch, generator=draw)[mine] < config.label_dropout
    y = batch.labels.masked_fill(dropped, null)
    t, weight = config.schedule.sample(config.batch, generator=draw)
    times = Times(t[mine].to(device, non_blocking=True), weight[mine] * batch.valid[:, None])
    return x, [e * config.noise_scale for e in noise], times, y.to(device, non_blocking=True), align
