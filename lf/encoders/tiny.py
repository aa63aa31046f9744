"""`tiny`: a small encoder, trained on the data set at first use; it replaces DINOv2 on toy data.

Its weights for ``shapes`` at 32 px come with the code (`lf.storage.cache.SHIPPED`).

Recipe: a network maps every patch to a few channels, with added noise, and is trained for two objectives. First, pooled
over one half of the image, the code must identify the other half of the same image within the batch (contrastive
prediction across space, as in CPC, arXiv 1807.03748); this keeps what distant parts share and drops what is local.
Second, patch by patch, it must predict a local descriptor: oriented gradients (as in MaskFeat, arXiv 2112.09133) and
mean colours. The noise makes the code keep robust features and drop others (texture phase, pixel noise). It needs only
images: no labels, no parameters of the generator.
"""

from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from lf.core.errors import UserError
from lf.data.base import Dataset, to_float
from lf.encoders.base import LATENT_STD, Encode, Encoder
from lf.network.fit import fit
from lf.storage.cache import cache_file, made_once

ORIENTATIONS = 8
TEMPERATURE = 0.1
VERSION = 1  # of the recipe below: part of the cached weights' name


def descriptor(x: Tensor, patch: int) -> Tensor:
    """Local descriptors ``(B, 8 + 12, H/patch, W/patch)`` of images in [-1, 1].

    Eight bins of gradient energy by orientation (without sign, so that a texture's phase has no effect), and the mean
    RGB of the patch's quarters.
    """
    grey = F.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    dx = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
    dy = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    turn = torch.atan2(dy, dx) / torch.pi * ORIENTATIONS  # one unit per bin, periodic over half a turn
    bins = torch.arange(ORIENTATIONS, device=x.device).view(1, -1, 1, 1)
    apart = (turn - bins + ORIENTATIONS / 2) % ORIENTATIONS - ORIENTATIONS / 2
    energy = (1 - apart.abs()).clamp_min(0) * torch.hypot(dx, dy)
    return torch.cat([F.avg_pool2d(energy, patch), F.pixel_unshuffle(F.avg_pool2d(x, patch // 2), 2)], 1)


class Tiny(Encoder):
    """Encoder trained with a noisy bottleneck on two objectives; see the module's docstring."""

    name: Literal["tiny"] = "tiny"
    dim: int = Field(8, ge=1, description="channels of the latent")
    width: int = Field(96, ge=8, description="channels of the hidden layers")
    noise: float = Field(0.5, ge=0, description="noise of the bottleneck, in its standard deviations")
    contrast: float = Field(1.0, ge=0, description="weight of the contrastive loss; that of the descriptors' loss is 1")
    steps: int = Field(600, ge=1, description="training steps")
    batch: int = Field(128, ge=1, description="images per step")
    lr: float = Field(4e-3, gt=0, description="highest learning rate")
    seed: int = Field(0, description="seed of its training")
    is_trained: ClassVar[bool] = True

    def channels(self, patch: int) -> int:
        if patch % 2:
            raise UserError(f"tiny: needs an even patch size, not {patch}")
        return self.dim

    def load(self, data: Dataset, patch: int, cache: Path) -> Encode:
        identity = f"{VERSION} {self.model_dump_json(exclude={'loss_weight'})} {patch} {data.digest}"
        file = cache_file(cache, "tiny", identity)
        net = _Net(self, patch)
        net.load_state_dict(made_once(file, lambda: _fitted(self, patch, data)))
        return net.eval().requires_grad_(False)


class _Net(nn.Module):
    """Convolutions to one vector per patch; a whitened, noisy bottleneck; a head for each of the two objectives."""

    def __init__(self, config: Tiny, patch: int):
        super().__init__()
        self.patch, self.noise = patch, config.noise
        w = config.width
        self.encoder = nn.Sequential(
            nn.Conv2d(3, w // 2, 4, 2, 1), nn.GELU(),
            nn.Conv2d(w // 2, 2 * w, patch // 2, patch // 2), nn.GELU(),
            nn.Conv2d(2 * w, 2 * w, 3, padding=1), nn.GELU(),
            nn.Conv2d(2 * w, 2 * w, 1), nn.GELU(),
            nn.Conv2d(2 * w, config.dim, 1),
        )  # fmt: skip
        self.whiten = nn.BatchNorm2d(config.dim, affine=False, momentum=0.02)
        self.describe = nn.Sequential(
            nn.Conv2d(config.dim, 2 * w, 1), nn.GELU(), nn.Conv2d(2 * w, ORIENTATIONS + 12, 1)
        )
        self.embed = nn.Sequential(
            nn.Conv2d(config.dim, 2 * w, 1), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * w, 64)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images in [-1, 1] → latents."""
        return self.whiten(self.encoder(x)) * LATENT_STD

    def losses(self, x: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Squared error of the descriptors, and InfoNCE between the left and the right halves."""
        code = self.whiten(self.encoder(torch.cat(x.chunk(2, 3))))  # halves separately, without leaks
        code = code + self.noise * torch.randn(code.shape, generator=generator)
        described = torch.cat(self.describe(code).chunk(2), 3)
        left, right = F.normalize(self.embed(code), dim=1).chunk(2)
        alike = left @ right.T / TEMPERATURE
        own = torch.arange(len(x))
        contrast = (F.cross_entropy(alike, own) + F.cross_entropy(alike.T, own)) / 2
        return F.mse_loss(described, target), contrast


def _fitted(config: Tiny, patch: int, data: Dataset) -> dict[str, Tensor]:
    """Trains the weights. Reproducible: every random draw is from the recipe's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        net = _Net(config, patch)
    read = data.read(range(len(data)))  # all images: this encoder is for data that fit into memory
    images = read.images[read.valid]
    target = torch.cat([descriptor(to_float(some), net.patch) for some in images.split(1024)])
    target = (target - target.mean((0, 2, 3), keepdim=True)) / (target.std((0, 2, 3), keepdim=True) + 1e-3)

    def loss(some: Tensor, generator: torch.Generator) -> Tensor:
        describing, contrast = net.losses(to_float(images[some]), target[some], generator)
        return describing + config.contrast * contrast

    what = f"trains the encoder tiny on {data.name}"
    return fit(what, net, loss, n=len(images), batch=config.batch, steps=config.steps, lr=config.lr, seed=config.seed)
