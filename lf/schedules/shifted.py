"""`shifted`: all streams follow one schedule, shifted as if they were scaled by different factors (variance shift)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from lf.diffusion.flow import shift, shift_derivative
from lf.schedules.base import Curved


class Shifted(Curved):
    """All streams move at the same time; the latents lead if ``alpha > 1`` (LF Eq. 4, Table 1).

    Args:
        alpha: ratio between the shifts of the first and the last stream, > 0. It is split evenly: with two streams
            the latent follows ``f_{sqrt(alpha)}`` and the pixels ``f_{1/sqrt(alpha)}``.
    """

    name: Literal["shifted"] = "shifted"
    streams: int = Field(2, ge=2)
    alpha: float = Field(9.0, gt=0, description="ratio of the shifts; above 1 the latents lead")

    def curve(self, u: Tensor) -> Tensor:
        """``t_i = f_{a_i}(u)`` with ``a_i = alpha^(1/2 - rank_i/(k-1))``."""
        return torch.stack([shift(u, a) for a in self._shifts()], -1)

    def derivative(self, u: Tensor) -> Tensor:
        """``t_i' = f_{a_i}'(u)``."""
        return torch.stack([shift_derivative(u, a) for a in self._shifts()], -1)

    def inverse(self, t: Tensor, stream: int) -> Tensor:
        """``u = f_{1/a_i}(t)``."""
        return shift(t, 1 / self._shifts()[stream])

    def _shifts(self) -> list[float]:
        return [self.alpha ** (0.5 - rank / (self.streams - 1)) for rank in self.ranks]
