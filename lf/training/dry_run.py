"""Dry run: print the recipe and its cost, execute one step."""

import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lf import data
from lf.config import Training
from lf.core.distributed import World
from lf.core.errors import NotANumberError, UserError
from lf.data import Batch, Dataset, Images, to_float
from lf.encoders import Encoder
from lf.model.denoiser import LatentForcing
from lf.training.flops import activation_bytes, forward_flops
from lf.training.step_inputs import step_inputs
from lf.training.warm_start import start, trunk_of

ASSUMED = 400e12  # FLOP/s per GPU if no throughput is given: about 40 % of an H100's dense bfloat16 rate
FEW = 2  # images of the step


def dry_run(config: Training, rate: float = 0) -> None:
    """Prints the recipe and executes one training step of two images on the CPU. Writes no run.

    Args:
        config: the training.
        rate: images that a GPU trains per second, for the forecast; 0: assume 400 TFLOP/s.

    Raises:
        UserError: the loss of the step is not a number, or the run of ``init`` is missing or does not fit.
    """
    if config.init.name:
        trunk_of(config)  # before anything is printed
    images = (
        data.open(config.data, config.resolution, config.runtime.cache, config.runtime.limit_damaged)
        if config.data
        else None
    )
    classes = len(images.classes) if images else 1000
    model = LatentForcing(config, classes)
    show(config, model, images, rate)
    if config.init.name:
        print(start(model.network, config))
    print(one_step(config, model, images))


def show(config: Training, model: LatentForcing, images: Dataset | None, rate: float) -> None:
    """Prints the recipe as a table; 80 columns if not on a terminal."""
    network, grid = config.network, config.resolution // config.network.patch
    parameters = sum(p.numel() for p in model.parameters())
    forward = forward_flops(model.network)
    fixed = 4 * parameters * (4 + len(config.ema))  # weights, gradients, two moments, averages
    image = activation_bytes(model.network)
    hours = config.batch * config.steps / (rate or ASSUMED / (3 * forward)) / 3600
    stated = (
        f"{rate:,.0f} images/s per GPU"
        if rate
        else f"{ASSUMED / 1e12:.0f} TFLOP/s per GPU, {ASSUMED / 3 / forward:,.0f} images/s"
    )
    epochs = f", {config.steps * config.batch / len(images):.1f} epochs of {len(images):,} images" if images else ""
    rows = {
        "data": f"{config.data or 'none given'}, {config.resolution} px, {model.classes} classes",
        "streams": "; ".join(f"{s.name} {tuple(s.shape)}, λ {s.loss_weight:g}" for s in model.streams),
        "network": f"depth {network.depth}, width {network.width}, heads {network.heads}"
        + (f", experts {network.expert_depth}×{network.expert_width} per stream" if network.expert_width else ""),
        "tokens": f"{grid}² = {grid**2}, {network.class_tokens} class tokens from block {network.class_token_block}",
        "parameters": f"{parameters:,}",
        "FLOPs per image": f"{forward / 1e9:.3g} G forward, {3 * forward / 1e9:.3g} G in training (matrix products)",
        "schedule": ", ".join(f"{k} {v}" for k, v in config.schedule.model_dump().items() if k != "streams"),
        "optimiser": f"AdamW (0.9, 0.95), lr {config.lr:g} {config.lr_schedule} after {config.warmup:,} steps, "
        f"weight decay {config.weight_decay:g}, clip {config.clip or 'off'}, EMA {', '.join(map(str, config.ema))}",
        "labels": f"dropped {config.label_dropout:.0%}; flips {'on' if config.flip else 'off'}; {config.dtype}",
        "REPA": f"{config.repa.name} at block {network.repa_block}, λ {config.repa_weight:g}"
        if config.repa
        else "none",
        "steps": f"{config.steps:,} of {config.batch} images{epochs}",
        "memory (estimate)": f"{fixed / 2**30:.3g} GiB weights, gradients, moments, averages"
        f" + {image / 2**20:.0f} MiB per image of a process's share of the batch, uncompiled",
        "GPU-hours": f"{hours:,.3g} at {stated}, without the encoder",
    }
    table = Table(box=None, show_header=False, padding=(0, 1))
    for name, value in rows.items():
        table.add_row(name, Text(value, overflow="fold"))
    Console(width=None if Console().is_terminal else 80).print(table)


def one_step(config: Training, model: LatentForcing, images: Dataset | None, encode: bool = True) -> str:
    """Executes one training step on the first images; returns a line that reports it.

    Random numbers replace data and latents that are missing; without ``encode`` they replace all latents.

    Raises:
        UserError: the loss is not a number.
    """
    some, said = _few(config, images, encode)
    tiny = config.model_copy(update={"batch": FEW})
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr)
    began = time.monotonic()
    x, noise, times, y, align = step_inputs(tiny, 0, some, model.classes, None, World(0, 1, torch.device("cpu")))
    loss = model.loss(x, noise, times, y, align)
    loss[0].backward()
    optimizer.step()
    if not loss.isfinite().all():
        raise NotANumberError("the loss of the first step is not a number")
    return f"one step of {FEW} images on the CPU: loss {loss[0]:.4f}, {time.monotonic() - began:.1f} s{said}"


def _few(config: Training, images: Dataset | None, encode: bool) -> tuple[Batch, str]:
    """Two images with their latents, and a remark on what was replaced by random numbers."""
    said = ""
    if images:
        few = images.read(torch.arange(min(FEW, len(images))).repeat(FEW)[:FEW])
    else:
        shape = (FEW, 3, config.resolution, config.resolution)
        pixels = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        few = Batch(pixels, torch.zeros(FEW, dtype=torch.long), (), torch.ones(FEW, dtype=torch.bool))
        said = "\nno data given: used random pixels"
    shown = Images(config.data, "rehearsal", few.images, few.labels, ("",))
    latents = []
    for encoder in config.encoders:
        latent, missing = _latent(encoder, shown, config, encode)
        latents.append(latent)
        said += f"\n{missing}; used random latents" if missing else ""
    return few._replace(latents=tuple(latents)), said


def _latent(encoder: Encoder, shown: Images, config: Training, real: bool) -> tuple[torch.Tensor, str]:
    missing = ""
    if real and encoder.is_trained:
        missing = f"{encoder.name} is trained on the data at first use"
    elif real:
        try:
            encoder.check()
            with tempfile.TemporaryDirectory() as scratch:  # statistics of two images must not stay in the cache
                encode = encoder.load(shown, config.network.patch, Path(scratch))
            with torch.no_grad():
                return encode(to_float(shown.images)), ""
        except UserError as error:
            missing = str(error)
    shape = (len(shown), *encoder.stream(config.resolution, config.network.patch).shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)), missing
