"""`offset`: each later stream starts later in global time; all end at 1 (linear offset)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from lf.schedules.base import Curved


class Offset(Curved):
    """A fixed head start, as in SFD and LF Table 8.

    Args:
        offset: head start of the first stream over the last, in global time; if negative, the pixels lead.
    """

    name: Literal["offset"] = "offset"
    streams: int = Field(2, ge=2)
    offset: float = Field(0.1, gt=-1, lt=1, description="head start of the latents; below 0 the pixels lead")

    def curve(self, u: Tensor) -> Tensor:
        """``t_i = max((u - o_i) / (1 - o_i), 0)``, ``o_i = |offset| place_i / (k-1)``."""
        late = u.new_tensor(self._starts())
        return ((u[..., None] - late) / (1 - late)).clamp_min(0)

    def derivative(self, u: Tensor) -> Tensor:
        """``t_i' = 1 / (1 - o_i)`` from ``o_i`` on, else 0."""
        late = u.new_tensor(self._starts())
        return torch.where(u[..., None] >= late, 1 / (1 - late), 0.0)

    def inverse(self, t: Tensor, stream: int) -> Tensor:
        """``u = o_i + (1 - o_i) t``."""
        late = self._starts()[stream]
        return late + (1 - late) * t

    def _starts(self) -> list[float]:
        last = self.streams - 1
        place = self.ranks if self.offset >= 0 else [last - rank for rank in self.ranks]
        return [abs(self.offset) * p / last for p in place]
