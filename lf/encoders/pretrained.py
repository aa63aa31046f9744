"""Shared by pretrained vision transformers: resize, normalise, tokens → feature map, whiten, clamp, scale."""

import json
import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from lf.core.errors import UserError
from lf.core.parsing import optional
from lf.data.base import Dataset
from lf.encoders.base import LATENT_STD, Encode, Encoder
from lf.encoders.weights import digest, find
from lf.encoders.whitening import EPS, Per, load, measure
from lf.storage.atomic import replace_tensors
from lf.storage.cache import cache_file
from lf.storage.lease import lease

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's RGB in [0, 1]
MOST_EXTRA = 16  # most class, distillation and register tokens; every known ViT puts them first
WORKERS = 4  # processes that read shards for the whitening
VERSION = 1  # of the features that cached whitening statistics are measured on


class Backbone(NamedTuple):
    """A pretrained network.

    Attributes:
        net: normalised images ``(B, 3, cell·grid, cell·grid)`` → tokens ``(B, extra + grid², C)``, patches last,
            row by row.
        cell: side of its patches in pixels.
        mean, std: mean and standard deviation of RGB in [0, 1] that normalise its input.
    """

    net: nn.Module
    cell: int
    mean: Sequence[float] = MEAN
    std: Sequence[float] = STD


class Latents(nn.Module):
    """Images in [-1, 1] → latents. Frozen; whitened after `whiten` was called."""

    mean: Tensor
    std: Tensor
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, backbone: Backbone, grid: int, clamp: float | None, eps: float = EPS):
        super().__init__()
        self.net, self.grid, self.size, self.clamp, self.eps = backbone.net, grid, backbone.cell * grid, clamp, eps
        self.register_buffer("pixel_mean", torch.tensor(backbone.mean).view(3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(backbone.std).view(3, 1, 1))
        self.register_buffer("mean", torch.zeros(1, 1, 1))
        self.register_buffer("std", torch.ones(1, 1, 1))
        self.eval().requires_grad_(False)

    def whiten(self, stats: dict[str, Tensor]) -> None:
        """Sets ``mean`` and ``var``, each ``(C, 1, 1)`` or ``(C, h, w)``."""
        self.mean, self.std = stats["mean"], (stats["var"] + self.eps).sqrt()

    def tokens(self, x: Tensor) -> Tensor:
        """Images in [-1, 1] of any size → all tokens ``(B, extra + grid², C)``."""
        x = (x + 1) / 2
        if x.shape[-1] != self.size:  # not antialiased, as for RAE's and LF's published statistics
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", align_corners=False)
        return self.net((x - self.pixel_mean) / self.pixel_std)

    def features(self, x: Tensor) -> Tensor:
        """Images in [-1, 1] → ``(B, C, grid, grid)`` float32, not whitened."""
        return self.tokens(x)[:, -(self.grid**2) :].float().mT.unflatten(-1, (self.grid, self.grid))

    def forward(self, x: Tensor) -> Tensor:
        """Images in [-1, 1] → latents ``(B, C, grid, grid)`` float32, with standard deviation `LATENT_STD`."""
        z = (self.features(x) - self.mean) / self.std
        return (z if self.clamp is None else z.clamp(-self.clamp, self.clamp)) * LATENT_STD


class Pretrained(Encoder):
    """Base of the encoders with published weights.

    The grid follows from the data: 256 px with patch 16 and 512 px with patch 32 both give 16 × 16. Images are resized
    to the encoder's patch size times the grid.
    """

    weights: str = Field("", description="local file or folder, URL or hub id; by default the published weights")
    sha256: str = Field("", pattern="^([0-9a-f]{64})?$", description="SHA-256 that the weight file must have")
    stats: str = Field("", description="file of lf.encoders.whiten, or RAE's stat.pt; by default measured on the data")
    per: Per = Field("channel", description="whitening per channel, or per element (channel and position)")
    clamp: float | None = Field(None, gt=0, description="bound of the whitened latents")
    eps: float = optional(EPS, ge=0, description="added to the variance; LF's public code has 0 but for dinov2")

    files: ClassVar[tuple[str, ...]] = ("weights", "stats")
    hub_files: ClassVar[tuple[str, ...]] = ()
    """The files needed from a hub repository; none if the weights are a single file."""

    @abstractmethod
    def published(self) -> str:
        """URL or hub id of the public weights."""

    @abstractmethod
    def backbone(self, place: Path, grid: int) -> Backbone:
        """The network with the weights at ``place``, for inputs of ``grid`` × ``grid`` patches."""

    def check(self) -> None:
        self.place()

    def load(self, data: Dataset, patch: int, cache: Path) -> Encode:
        """The whitened encoder; statistics that are not given are measured once and cached under ``cache``."""
        grid, channels = data.resolution // patch, self.channels(patch)
        shape = (channels, grid, grid) if self.per == "element" else (channels, 1, 1)
        encode = self.unwhitened(data.resolution, patch)
        file, hint = Path(self.stats), f"python -m lf.encoders.whiten {self.name} {data.name} … out=FILE makes one"
        if not self.stats:
            file = self.kept(data, patch, cache)
            if not file.exists():
                with lease(Path(f"{file}.lock")):
                    if not file.exists():
                        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
                        workers = min(WORKERS, os.cpu_count() or 1)
                        self.measure(encode.to(device), data, patch, file, workers=workers)
        statistics = load(f"{self.name}.stats", file, shape, hint)
        if not self.eps and not statistics["var"].all():
            raise UserError(f"{self.name}.eps=0: a channel of its latents does not vary in {file}; give eps > 0")
        encode.whiten(statistics)
        return encode.cpu()

    def unwhitened(self, resolution: int, patch: int) -> Latents:
        """The encoder without whitening. Raises `UserError` if its tokens do not fit `channels` and the grid."""
        grid = resolution // patch
        place = self.place()
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():  # initial weights are drawn, then replaced
                encode = Latents(self.backbone(place, grid), grid, self.clamp, self.eps)
                tokens = encode.tokens(torch.zeros(1, 3, encode.size, encode.size))
        except UserError:
            raise
        except Exception as error:  # the models of these libraries fail in many ways
            fault = f"cannot be used on a grid of {grid} × {grid}: {' '.join(str(error).split())[:200]}"
            raise UserError(f"{self.name}.weights={place}: {fault}") from error
        if tokens.ndim != 3 or not 0 <= tokens.shape[1] - grid**2 <= MOST_EXTRA:
            raise UserError(
                f"{self.name}: its output is {tuple(tokens.shape[1:])}, not one token per cell of {grid} × {grid}"
            )
        if tokens.shape[-1] != self.channels(patch):
            raise UserError(f"{self.name}.dim={self.channels(patch)}: these weights have {tokens.shape[-1]}")
        return encode

    def place(self) -> Path:
        """File or folder of the weights; downloaded if necessary, and checked against ``sha256`` if given."""
        found = find(f"{self.name}.weights", self.weights or self.published(), self.published(), self.hub_files)
        if self.sha256 and digest(found) != self.sha256:
            raise UserError(f"{self.name}.weights={found}: has SHA-256 {digest(found)}, expected {self.sha256}")
        return found

    def kept(self, data: Dataset, patch: int, cache: Path) -> Path:
        """The file of the statistics measured on ``data``."""
        what = self.model_dump_json(exclude={"loss_weight", "weights", "sha256", "stats", "clamp", "eps"})
        identity = f"{VERSION} {what} {digest(self.place())} {data.resolution // patch} {data.digest}"
        cache.mkdir(parents=True, exist_ok=True)
        return cache_file(cache, f"whitening-{self.name}", identity)

    def measure(
        self, encode: Latents, data: Dataset, patch: int, file: Path, batch: int = 64, n: int = 0, workers: int = 0
    ) -> int:
        """Writes the statistics of ``encode``'s features over ``data`` to ``file``; returns the number of images."""
        device = encode.mean.device
        tensors, count = measure(encode.features, data, self.per, device, batch=batch, n=n, workers=workers)
        about = {"encoder": self.model_dump(mode="json"), "data": data.digest, "images": count, "patch": patch}
        replace_tensors(file, tensors, {name: json.dumps(value) for name, value in about.items()})
        return count
