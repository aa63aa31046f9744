"""`autoencoder`: a small convolutional tokenizer for latent diffusion, trained on the data set at first use.

The encoder halves the image until each cell of ``stride`` × ``stride`` pixels is a vector of size ``dim``; the decoder
reverses this. The loss is the mean absolute error plus, optionally,

- ``kl``: the KL divergence of a Gaussian posterior from N(0, 1), in nats per pixel value (VAE, arXiv 1312.6114);
- ``align``: REPA (arXiv 2410.06940) in the tokenizer: the cells of a token, through a small network, are aligned with
  the token of another encoder by ``1 - cos``.

Every random draw is a function of (seed, step): on a CPU the same recipe gives the same weights, interrupted or not.
"""

import math
import shutil
import sys
import time
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from lf.core import preemption
from lf.core.errors import NotANumberError, UserError
from lf.core.seeds import generator
from lf.core.stages import stage
from lf.data.base import Dataset, to_float
from lf.data.loader import batches, cores
from lf.encoders import AnyEncoder
from lf.encoders.base import LATENT_STD, Codec, Encode, Encoder
from lf.encoders.whitening import EPS, measure
from lf.storage import checkpoint
from lf.storage.cache import cache_file, made_once, read_cached

VERSION = 1  # of the recipe below: part of the cached weights' name
WARMUP = 50  # steps
MEASURED = 10_000  # images for the whitening statistics
SAVE_EVERY = 60  # seconds


class Autoencoder(Encoder):
    """Convolutional autoencoder; ``dim`` and ``stride`` set its rate. See the module's docstring."""

    name: Literal["autoencoder"] = "autoencoder"
    dim: int = Field(4, ge=1, description="channels of the latent")
    stride: int = Field(4, ge=2, description="side of a cell in pixels: a power of two that divides the patch")
    kl: float = Field(0.0, ge=0, description="weight of the KL divergence; 0: a plain autoencoder, without posterior")
    align: AnyEncoder | None = Field(None, description="encoder that the latent is aligned to")
    align_weight: float = Field(0.1, gt=0, description="weight of 1 - cos")
    width: int = Field(32, ge=8, description="channels of the hidden layers")
    steps: int = Field(1600, ge=1, description="training steps")
    batch: int = Field(32, ge=1, description="images per step")
    lr: float = Field(3e-3, gt=0, description="highest learning rate")
    seed: int = Field(0, description="seed of its training")
    has_decoder: ClassVar[bool] = True
    is_trained: ClassVar[bool] = True

    @field_validator("stride")
    @classmethod
    def _halvings(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"{value} is not a power of two")
        return value

    def channels(self, patch: int) -> int:
        if patch % self.stride:
            raise UserError(f"autoencoder.stride={self.stride}: must divide the patch size {patch}")
        if self.align and self.align.cell(patch) != patch:
            raise UserError(f"autoencoder.align={self.align.name}: has more than one vector per token")
        return self.dim

    def cell(self, patch: int) -> int:
        return self.stride

    def load(self, data: Dataset, patch: int, cache: Path) -> Encode:
        self.channels(patch)  # raises if the patch does not fit
        file = self.file(data.digest, patch, cache)
        return self._net(made_once(file, lambda: _trained(self, patch, data, cache, file.with_suffix(""))))

    def codec(self, digest: str, patch: int, cache: Path) -> Codec:
        file = self.file(digest, patch, cache)
        if not file.exists():
            raise UserError(
                f"autoencoder: {file}, which decodes its latents, is missing; copy it from the training's run store, "
                "or train it again on the same data: python -m lf.train_tokenizer"
            )
        return self._net(read_cached(file))

    def check(self) -> None:
        if self.align:
            self.align.check()

    def file(self, digest: str, patch: int, cache: Path) -> Path:
        """The file of the trained weights; they depend on the patch only if tokens are aligned."""
        what = self.model_dump_json(exclude={"loss_weight": True, "align": {"loss_weight"}})
        identity = f"{VERSION} {what} {patch if self.align else ''} {digest}"
        return cache_file(cache, "autoencoder", identity)

    def _net(self, tensors: dict[str, Tensor]) -> "Net":
        net = Net(self)
        net.load_state_dict(tensors)
        return net.eval().requires_grad_(False)


class Net(Codec):
    """The autoencoder. Its latents are whitened per channel after ``mean`` and ``std`` are set."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: Autoencoder):
        super().__init__()
        w, dim, halvings = config.width, config.dim, config.stride.bit_length() - 1
        down: list[nn.Module] = [nn.Conv2d(3, w, 4, 2, 1), nn.GELU()]
        up: list[nn.Module] = [nn.Conv2d(w, 4 * 3, 3, padding=1), nn.PixelShuffle(2)]
        for _ in range(halvings - 1):
            down += [nn.Conv2d(w, w, 4, 2, 1), nn.GELU()]
            up = [nn.Conv2d(w, 4 * w, 3, padding=1), nn.PixelShuffle(2), nn.GELU(), *up]
        self.encoder = nn.Sequential(*down, Residual(w), nn.Conv2d(w, dim * (2 if config.kl else 1), 1))
        self.decoder = nn.Sequential(nn.Conv2d(dim, w, 3, padding=1), Residual(w), Residual(w), *up)
        self.register_buffer("mean", torch.zeros(dim, 1, 1))
        self.register_buffer("std", torch.ones(dim, 1, 1))
        self.dim = dim

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images in [-1, 1] → mean and log-variance of the code; without posterior the latter is empty."""
        mean, log_var = self.encoder(x).tensor_split([self.dim], 1)
        return mean, log_var.clamp(-30, 20)

    def code(self, x: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """The decoder's input in training, and its rate ``(B,)`` in nats per image; 0 without posterior."""
        mean, log_var = self.posterior(x)
        if not log_var.shape[1]:
            return mean, mean.new_zeros(len(mean))
        rate = (mean.square() + log_var.exp() - 1 - log_var).flatten(1).sum(1) / 2
        noise = torch.randn(mean.shape, generator=draw, device=mean.device)
        return mean + (log_var / 2).exp() * noise, rate

    def forward(self, x: Tensor) -> Tensor:
        """Images in [-1, 1] → latents of standard deviation `LATENT_STD`; with a posterior, its mean."""
        return (self.posterior(x)[0] - self.mean) / self.std * LATENT_STD

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents / LATENT_STD * self.std + self.mean).clamp(-1, 1)


class Residual(nn.Module):
    """Residual block of two convolutions."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _reader(config: Autoencoder, patch: int) -> nn.Module:
    """A network: the cells of a token → the aligned encoder's token."""
    if config.align is None:
        return nn.Identity()
    cells, width = patch // config.stride, 2 * config.width
    return nn.Sequential(
        nn.Conv2d(config.dim, width, cells, cells), nn.GELU(), nn.Conv2d(width, config.align.channels(patch), 1)
    )


def _trained(config: Autoencoder, patch: int, data: Dataset, cache: Path, progress: Path) -> dict[str, Tensor]:
    """Trains the weights; ``progress`` is the folder of checkpoints during training."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher = config.align.load(data, patch, cache).to(device) if config.align else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        both = nn.ModuleDict({"net": Net(config), "reader": _reader(config, patch)}).to(device)
    net, reader = both["net"], both["reader"]
    assert isinstance(net, Net)
    optimizer = torch.optim.AdamW(both.parameters(), lr=config.lr)
    begun_at, losses = 0, torch.zeros(config.steps)  # on the device: no synchronisation
    if checkpoint.begun(progress):
        begun_at, losses, _ = checkpoint.restore(progress, both, [], optimizer)
    losses = losses.to(device)
    loader = batches(
        data, config.batch, range(begun_at, config.steps), config.seed, flip=False, workers=min(4, cores())
    )
    saved = time.monotonic()
    with stage("trains the autoencoder", config.steps, done=begun_at) as bar:
        for step, batch in enumerate(loader, begun_at):
            x = to_float(batch.images[batch.valid].to(device))
            code, rate = net.code(x, generator("autoencoder", config.seed, step, device=device))
            loss = F.l1_loss(net.decoder(code), x) + config.kl * rate.mean() / x.shape[1:].numel()
            if teacher is not None:
                loss = loss + config.align_weight * (1 - F.cosine_similarity(reader(code), teacher(x), 1)).mean()
            for group in optimizer.param_groups:
                group["lr"] = config.lr * min((step + 1) / WARMUP, (1 + math.cos(math.pi * step / config.steps)) / 2)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
            optimizer.step()
            losses[step] = loss.detach()
            if preemption.asked() or time.monotonic() - saved > SAVE_EVERY or step == config.steps - 1:
                if not losses.isfinite().all():
                    raise NotANumberError(f"autoencoder: loss is not a number by step {step + 1}; try a smaller lr")
                if preemption.asked() != preemption.LOST:
                    checkpoint.save(progress, both, [], optimizer, step + 1, losses)
                if preemption.asked():
                    raise preemption.Stopped(preemption.asked())
                if bar.disable:
                    print(f"autoencoder: step {step + 1}/{config.steps}, loss {losses[step]:.4f}", file=sys.stderr)
                saved = time.monotonic()
            bar.update()
    net.eval()
    found, _ = measure(lambda x: net.posterior(x)[0], data, "channel", device, n=MEASURED)
    net.mean, net.std = found["mean"], (found["var"] + EPS).sqrt()
    shutil.rmtree(progress, ignore_errors=True)
    return {name: tensor.cpu() for name, tensor in net.state_dict().items()}
