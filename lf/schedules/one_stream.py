"""`pixel_only` (JiT) and `latent_only`: some streams move; the others stay noise and have no loss."""

from abc import abstractmethod
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from lf.schedules.base import Schedule, Times


class Moving(Schedule):
    """The streams of ``moving`` share one logit-normal time and the path ``t = u``."""

    @property
    @abstractmethod
    def moving(self) -> Tensor:
        """``(streams,)``: 1 for a stream that moves, 0 for one that stays noise."""

    @property
    @abstractmethod
    def density(self) -> tuple[float, float]:
        """Mean and standard deviation of the logit of the time."""

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Times:
        """``t = sigmoid(N(mean, std))`` (JiT)."""
        mean, std = self.density
        t = (mean + std * torch.randn(n, generator=generator)).sigmoid()
        return Times(self.curve(t), self.moving.expand(n, -1))

    def curve(self, u: Tensor) -> Tensor:
        """``t_i = u`` where stream i moves, else 0."""
        return u[..., None] * self.moving.to(u.dtype)

    def derivative(self, u: Tensor) -> Tensor:
        """``t_i' = 1`` where stream i moves, else 0."""
        return self.moving.to(u.dtype).expand(*u.shape, -1)


class PixelOnly(Moving):
    """JiT's schedule: only pixels (JiT: mean -0.8, standard deviation 0.8)."""

    name: Literal["pixel_only"] = "pixel_only"
    streams: int = Field(1, ge=1)
    P_mean: float = Field(-0.8, description="mean of the logit of the time")
    P_std: float = Field(0.8, gt=0, description="standard deviation of the logit of the time")

    @property
    def moving(self) -> Tensor:
        return (torch.arange(self.streams) == 0).float()

    @property
    def density(self) -> tuple[float, float]:
        return self.P_mean, self.P_std


class LatentOnly(Moving):
    """Only latents, as in latent diffusion; all latents share one time."""

    name: Literal["latent_only"] = "latent_only"
    streams: int = Field(2, ge=2)
    D_mean: float = Field(-1.2, description="mean of the logit of the time")
    D_std: float = Field(1.0, gt=0, description="standard deviation of the logit of the time")

    @property
    def moving(self) -> Tensor:
        return (torch.arange(self.streams) > 0).float()

    @property
    def density(self) -> tuple[float, float]:
        return self.D_mean, self.D_std
