"""`offset`: each later stream starts later in global time; all end at 1 (linear offset)."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from lf.core.parsing import optional
from lf.diffusion.flow import shift, shift_derivative
from lf.schedules.logit_normal import Curved, LogitNormals


class Delayed(Curved):
    """The curve of `offset` and `shifted`: stream i starts at ``o_i`` in global time and is shifted by ``a_i``.

    ``t_i(u) = f_{a_i}(max((u - o_i) / (1 - o_i), 0))``. `offset` has ``a_i = 1``; `shifted` has ``o_i = 0`` by default.
    The public code of LF samples along it with both.
    """

    streams: int = Field(2, ge=2)
    offset: float = optional(0.0, gt=-1, lt=1, description="head start of the latents; below 0 the pixels lead")
    delay: dict[str, Annotated[float, Field(ge=0, lt=1)]] = optional(
        {}, description="start of a stream in global time, by name"
    )
    BY_NAME: ClassVar[tuple[str, ...]] = (*LogitNormals.BY_NAME, "delay")

    def bind(self) -> None:
        super().bind()
        self._set(delay={n: o for n, o in self.delay.items() if o != self._usual_starts()[self.names.index(n)]})

    def curve(self, u: Tensor) -> Tensor:
        """``t_i = f_{a_i}(v_i)`` with ``v_i = max((u - o_i) / (1 - o_i), 0)``."""
        return torch.stack([shift(v, a) for v, a in zip(self._own(u), self._shifts(), strict=True)], -1)

    def derivative(self, u: Tensor) -> Tensor:
        """``t_i' = f_{a_i}'(v_i) / (1 - o_i)`` from ``o_i`` on, else 0."""
        late = u.new_tensor(self._starts())
        own = zip(self._own(u), self._shifts(), strict=True)
        slopes = torch.stack([shift_derivative(v, a) for v, a in own], -1)
        return torch.where(u[..., None] >= late, slopes / (1 - late), 0.0)

    def inverse(self, t: Tensor, stream: int) -> Tensor:
        """``u = o_i + (1 - o_i) f_{1/a_i}(t)``."""
        late = self._starts()[stream]
        return late + (1 - late) * shift(t, 1 / self._shifts()[stream])

    def _own(self, u: Tensor) -> tuple[Tensor, ...]:
        """``v_i`` of every stream."""
        late = u.new_tensor(self._starts())
        return ((u[..., None] - late) / (1 - late)).clamp_min(0).unbind(-1)

    def _shifts(self) -> list[float]:
        """``a_i`` of every stream."""
        return [1.0] * self.streams

    def _starts(self) -> list[float]:
        """``o_i`` of every stream."""
        return self.values("delay", self._usual_starts())

    def _usual_starts(self) -> list[float]:
        """``o_i = |offset| place_i / (k-1)``."""
        last = self.streams - 1
        place = self.ranks if self.offset >= 0 else [last - rank for rank in self.ranks]
        return [abs(self.offset) * p / last for p in place]


class Offset(Delayed):
    """A fixed head start, as in SFD and LF Table 8.

    Args:
        offset: head start of the first stream over the last, in global time; if negative, the pixels lead.
        delay: the start of a stream in global time, in [0, 1), by name.
    """

    name: Literal["offset"] = "offset"
    offset: float = Field(0.1, gt=-1, lt=1, description="head start of the latents; below 0 the pixels lead")
