"""`cascaded`: one stream after the other, latents first (LF's best schedule, Table 8)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from lf.errors import UserError
from lf.schedules.base import LogitNormals, Times


class Cascaded(LogitNormals):
    """Each stream is made while the later ones are noise and the earlier ones clean.

    Args:
        beta: noise left on the finished latents in training, ``t_l = 1 - beta U[0,1]`` (LF Tables 6, 7).
        early: share of pixel steps drawn from U[0, 0.5], where the logit-normal has no mass (LF Table 5).
        latent_max: where the latents' path ends.
    """

    name: Literal["cascaded"] = "cascaded"
    streams: int = Field(2, ge=2)
    beta: float = Field(0.25, ge=0, le=1)
    early: float = Field(0.1, ge=0, le=1)
    latent_max: float = Field(1.0, gt=0, le=1)

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
        """The same share of equal steps for every stream."""
        if steps < 1 or steps % self.streams:
            better = max(steps + -steps % self.streams, self.streams)
            raise UserError(
                f"steps={steps}: cascaded gives each of its {self.streams} streams an equal share; "
                f"use a multiple of {self.streams}, such as {better}"
            )
        share = steps // self.streams
        return self._times(torch.arange(steps + 1, dtype=torch.float64) / share)  # exact where a stream ends

    def _times(self, phase: Tensor) -> Tensor:
        """Times at ``phase`` in [0, k]: its whole part is the number of streams that are done."""
        own = (phase[..., None] - phase.new_tensor(self.ranks)).clamp(0, 1)
        return own * own.new_tensor(self._ends())

    def _ends(self) -> list[float]:
        return [1.0] + [self.latent_max] * (self.streams - 1)
