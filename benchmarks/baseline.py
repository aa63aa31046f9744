"""Baselines: sampling and training as in the public code, on this project's networks, with the same results."""

import math
from collections.abc import Sequence
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor

from benchmarks.core import now
from lf import data
from lf.config import Sampling, Training
from lf.core.distributed import join
from lf.core.errors import UserError
from lf.data.loader import batches
from lf.diffusion import flow
from lf.diffusion.solver import sample
from lf.encoders.cache import attach
from lf.model.denoiser import LatentForcing
from lf.schedules import Times
from lf.training.step_inputs import step_inputs


@torch.no_grad()
def images(model: LatentForcing, guide: LatentForcing | None, sampling: Sampling, indices: range) -> Tensor:
    """Samples the images of ``indices``: float ``(n, 3, H, W)`` in about [-1, 1]."""
    device = next(model.parameters()).device
    noise = [e.to(device) for e in model.noise(indices, sampling.seed)]
    velocity = partial(_velocity, model, guide, sampling, model.labels(indices).to(device))
    with torch.autocast(device.type, torch.bfloat16, enabled=sampling.dtype == "bfloat16"):
        return sample(velocity, noise, sampling.path_for(model.config), sampling.solver)[0]


def _velocity(
    model: LatentForcing,
    guide: LatentForcing | None,
    sampling: Sampling,
    y: Tensor,
    z: list[Tensor],
    t: Sequence[float],
    moves: Sequence[bool],
) -> list[Tensor | None]:
    """Always two passes in two calls and the heads of all streams; the host waits for the times."""
    times = torch.tensor(t, device=y.device, dtype=torch.float32).expand(len(y), -1)
    scales = sampling.guidance.scales([s.name for s in model.streams], [now.item() for now in times[0]])
    weak = guide if guide and sampling.guidance.by_guide(t[1:], any(moves[1:])) else model
    strong = model.network(z, times, y).x
    other = weak.network(z, times, torch.full_like(y, model.classes)).x
    out: list[Tensor | None] = []
    for i, scale in enumerate(scales):
        v, v_weak = (
            flow.velocity(x[i].float(), z[i], times[:, i], sampling.t_clip)  # type: ignore[union-attr]
            for x in (strong, other)
        )
        out.append(v_weak + scale * (v - v_weak))
    return out


def train(config: Training, skipped: int) -> float:
    """Runs a training; returns the seconds of the steps after the first ``skipped``.

    The host waits for every loss; optimiser and averages loop over the parameters.
    """
    world, runtime = join(config.runtime.torch_device), config.runtime
    images = data.open(config.data, config.resolution, runtime.cache)
    images, encode = attach(images, config.encoders, config.network.patch, runtime.cache, config.flip, runtime.latents)
    encode = encode and [e.to(world.device) for e in encode]
    torch.manual_seed(config.seed)
    model = LatentForcing(config, len(images.classes)).to(world.device)
    emas = [(decay, deepcopy(model.network)) for decay in config.ema]
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=config.weight_decay)
    if runtime.compile:
        model.compile_blocks()
    loader = batches(images, config.batch, range(config.steps), config.seed, flip=config.flip, workers=runtime.workers)
    began = now(world.device)
    for step, batch in enumerate(loader):
        if step == skipped:
            began = now(world.device)
        x, noise, times, y, _ = step_inputs(config, step, batch, model.classes, encode, world)
        loss = _loss(model, x, noise, times, y)
        if not math.isfinite(loss.item()):
            raise UserError(f"loss is not a number at step {step}")
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(step)
        optimizer.step()
        for decay, average in emas:
            for kept, current in zip(average.parameters(), model.network.parameters(), strict=True):
                kept.detach().mul_(decay).add_(current.detach(), alpha=1 - decay)
    return now(world.device) - began


def _loss(model: LatentForcing, x: list[Tensor], noise: list[Tensor], times: Times, y: Tensor) -> Tensor:
    """The loss with every head for every image, also where the loss weight is 0."""
    config, t = model.config, times.t
    z = [flow.interpolate(a, e, t[:, i]) for i, (a, e) in enumerate(zip(x, noise, strict=True))]
    with torch.autocast(t.device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
        x_hat = model.network(z, t, y).x
    total = torch.zeros((), device=t.device)
    for i, stream in enumerate(model.streams):
        v, v_hat = (flow.velocity(a.float(), z[i], t[:, i], config.schedule.t_clip) for a in (x[i], x_hat[i]))
        weight = times.weight[:, i].to(t.device)
        total = total + stream.loss_weight * (weight * (v - v_hat).square().flatten(1).mean(1)).mean()
    return total
