"""`cascaded`: one stream after the other, latents first (LF's best schedule, Table 8)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from lf.core.errors import UserError
from lf.schedules.base import LogitNormals, Times


class Cascaded(LogitNormals):
    """Each stream is denoised while the later ones are noise and the earlier ones clean.

    Args:
        beta: noise left on finished latents in training, ``t_l = 1 - beta U[0,1]`` (LF Tables 6, 7).
        early: share of pixel times drawn from U[0, 0.5], where the logit-normal has little mass (LF Table 5).
        latent_max: last time of the latents on the path, in (0, 1].
    """

    name: Literal["cascaded"] = "cascaded"
    streams: int = Field(2, ge=2)
    beta: float = Field(0.25, ge=0, le=1, description="noise left on finished latents in training")
    early: float = Field(0.1, ge=0, le=1, description="share of pixel times drawn from U[0, 0.5]")
    latent_max: float = Field(1.0, gt=0, le=1, description="last time of the latents on the path")

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Times:
        stream, own = self.draw(n, generator)
        early = torch.rand(n, generator=generator) < self.early
        uniform = 0.5 * torch.rand(n, generator=generator)
        own = torch.where(early & (stream == 0), uniform, own)
        clean = 1 - self.beta * torch.rand(n, self.streams, generator=generator)
        rank = torch.tensor(self.ranks)
        t = torch.where(rank < rank[stream][:, None], clean, torch.zeros_like(clean))
        return Times(t.scatter(-1, stream[:, None], own[:, None]), self.one_hot(stream))

    def curve(self, u: Tensor) -> Tensor:
        """``t_i = end_i clamp(k u - rank_i, 0, 1)`` for k streams."""
        return self._times(self.streams * u)

    def derivative(self, u: Tensor) -> Tensor:
        """``t_i' = k end_i`` while stream i moves, else 0."""
        own = self.streams * u[..., None] - u.new_tensor(self.ranks)
        return torch.where((own >= 0) & (own < 1), self.streams * own.new_tensor(self._ends()), 0.0)

    def path(self, steps: int) -> Tensor:
        """Equal steps, and the same number of them for every stream. ``steps`` must be a multiple of ``streams``."""
        if steps < 1 or steps % self.streams:
            better = max(steps + -steps % self.streams, self.streams)
            raise UserError(
                f"steps={steps}: cascaded gives each of its {self.streams} streams equally many; "
                f"use a multiple of {self.streams}, such as {better}"
            )
        share = steps // self.streams
        return self._times(torch.arange(steps + 1, dtype=torch.float64) / share)  # exact at the ends of the streams

    def _times(self, phase: Tensor) -> Tensor:
        """Times at ``phase`` in [0, k]; its integer part is the number of finished streams."""
        own = (phase[..., None] - phase.new_tensor(self.ranks)).clamp(0, 1)
        return own * own.new_tensor(self._ends())

    def _ends(self) -> list[float]:
        return [1.0] + [self.latent_max] * (self.streams - 1)
