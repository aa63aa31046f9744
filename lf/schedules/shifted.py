"""`shifted`: one schedule for all streams, their variances apart by α (LF's variance shift)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from lf.flow import shift, shift_derivative
from lf.schedules.base import Curved


class Shifted(Curved):
    """All streams move at once, the latents ahead where ``alpha > 1`` (LF Eq. 4, Table 1).

    Args:
        alpha: full variance ratio between the first and the last stream. It is split evenly: with two
            streams the latent runs along ``f_{sqrt(alpha)}`` and the pixels along ``f_{1/sqrt(alpha)}``.
    """

    name: Literal["shifted"] = "shifted"
    streams: int = Field(2, ge=2)
    alpha: float = Field(9.0, gt=0)

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
