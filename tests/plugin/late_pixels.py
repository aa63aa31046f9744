"""`late_pixels`: the latents run ahead along ``u``, the pixels follow along a power of it."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from lf.schedules import Schedule, Times


class LatePixels(Schedule):
    """Trained at uniform places on its own curve, all losses on."""

    name: Literal["late_pixels"] = "late_pixels"
    streams: int = Field(2, ge=2)
    power: float = Field(3.0, ge=1)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Times:
        t = self.curve(torch.rand(n, generator=generator))
        return Times(t, torch.ones_like(t))

    def curve(self, u: Tensor) -> Tensor:
        """``t_p = u^power``, ``t_l = u``."""
        return torch.stack([u**self.power] + [u] * (self.streams - 1), -1)
