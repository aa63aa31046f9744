"""`tiny`: a small self-contained encoder, trained on the data set at first use; the stand-in for DINOv2.

Recipe: every patch is squeezed through a few channels with noise added, and what comes out must predict the
patch's local descriptor: a histogram of oriented gradients (the target of MaskFeat, arXiv 2112.09133) and the mean
colours of its quarters. The noise makes the code keep what is robust (colour, texture orientation, coverage) and
drop what is not (texture phase, pixel noise). It needs images only: no labels, nothing a generator knows.
"""

import hashlib
import os
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lf.data.base import Images, to_float
from lf.encoders.base import Encode, Encoder

ORIENTATIONS = 8


def descriptor(x: Tensor, patch: int) -> Tensor:
    """Local descriptors ``(B, 8 + 12, H/patch, W/patch)`` of images in [-1, 1].

    Eight bins of gradient energy by orientation (the sign does not matter: a texture's phase does not), and
    the mean RGB of the patch's quarters.
    """
    grey = F.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    dx = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
    dy = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    turn = torch.atan2(dy, dx) / torch.pi * ORIENTATIONS  # one unit a bin, periodic over half a turn
    bins = torch.arange(ORIENTATIONS, device=x.device).view(1, -1, 1, 1)
    apart = (turn - bins + ORIENTATIONS / 2) % ORIENTATIONS - ORIENTATIONS / 2
    energy = (1 - apart.abs()).clamp_min(0) * torch.hypot(dx, dy)
    return torch.cat([F.avg_pool2d(energy, patch), F.pixel_unshuffle(F.avg_pool2d(x, patch // 2), 2)], 1)


class Tiny(Encoder):
    """Noisy-bottleneck prediction of local descriptors; see the module's docstring."""

    name: Literal["tiny"] = "tiny"
    dim: int = Field(16, ge=1, description="channels of the latent")
    width: int = Field(96, ge=8)
    noise: float = Field(0.5, ge=0, description="of the bottleneck, in its standard deviations")
    steps: int = Field(600, ge=1)
    batch: int = Field(128, ge=1)
    lr: float = Field(2e-3, gt=0)
    seed: int = 0

    def channels(self, patch: int) -> int:
        return self.dim

    def load(self, data: Images, patch: int, cache: Path) -> Encode:
        identity = f"{self.model_dump_json(exclude={'loss_weight'})} {patch} {data.digest}"
        file = cache / f"tiny-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.safetensors"
        net = _Net(self, patch)
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            if not file.exists():
                _fit(net, self, data)
                save_file(net.state_dict(), f"{file}.part")
                os.replace(f"{file}.part", file)
        net.load_state_dict(load_file(file))
        return net.eval().requires_grad_(False)


class _Net(nn.Module):
    """Convolutions to one vector a patch; a whitened, noisy bottleneck; a small decoder for the descriptor."""

    def __init__(self, config: Tiny, patch: int):
        super().__init__()
        self.patch, self.noise = patch, config.noise
        w = config.width
        self.encoder = nn.Sequential(
            nn.Conv2d(3, w // 2, 4, 2, 1), nn.GELU(),
            nn.Conv2d(w // 2, 2 * w, patch // 2, patch // 2), nn.GELU(),
            nn.Conv2d(2 * w, 2 * w, 1), nn.GELU(),
            nn.Conv2d(2 * w, config.dim, 1),
        )  # fmt: skip
        self.whiten = nn.BatchNorm2d(config.dim, affine=False, momentum=0.02)
        self.decoder = nn.Sequential(nn.Conv2d(config.dim, 2 * w, 3, padding=1), nn.GELU(), nn.Conv2d(2 * w, ORIENTATIONS + 12, 1))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Images in [-1, 1] → latents with the pixels' standard deviation."""
        return self.whiten(self.encoder(x)) * self.scale

    def predict(self, x: Tensor, generator: torch.Generator) -> Tensor:
        code = self.whiten(self.encoder(x))
        noise = torch.randn(code.shape, generator=generator, device=code.device)
        return self.decoder(code + self.noise * noise)


def _fit(net: _Net, config: Tiny, data: Images) -> None:
    """Trains ``net`` in place. Reproducible: every draw is from the recipe's own seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
    generator = torch.Generator().manual_seed(config.seed)
    target = torch.cat([descriptor(to_float(some), net.patch) for some in data.images.split(1024)])
    target = (target - target.mean((0, 2, 3), keepdim=True)) / (target.std((0, 2, 3), keepdim=True) + 1e-3)
    net.scale.copy_(to_float(data.images).std())
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.steps)
    net.train()
    for _ in range(config.steps):
        some = torch.randint(len(data), (config.batch,), generator=generator)
        loss = F.mse_loss(net.predict(to_float(data.images[some]), generator), target[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
