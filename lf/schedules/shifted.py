"""`shifted`: all streams follow one schedule, shifted as if they were scaled by different factors (variance shift)."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lf.core.parsing import optional
from lf.schedules.offset import Delayed


class Shifted(Delayed):
    """All streams move at the same time; the latents lead if ``alpha > 1`` (LF Eq. 4, Table 1).

    Args:
        alpha: ratio between the shifts of the first and the last stream, > 0. It is split evenly: with two streams
            the latent follows ``f_{sqrt(alpha)}`` and the pixels ``f_{1/sqrt(alpha)}``.
        shift: the shift ``a_i`` of a stream, > 0, by name.
        offset: head start of the first stream over the last, in global time, before the shift; see `Delayed`.
        delay: the start of a stream in global time, in [0, 1), by name.
    """

    name: Literal["shifted"] = "shifted"
    alpha: float = Field(9.0, gt=0, description="ratio of the shifts; above 1 the latents lead")
    shift: dict[str, Annotated[float, Field(gt=0)]] = optional({}, description="shift of a stream, by name")
    BY_NAME: ClassVar[tuple[str, ...]] = (*Delayed.BY_NAME, "shift")

    def bind(self) -> None:
        super().bind()
        self._set(shift={n: a for n, a in self.shift.items() if a != self._usual_shifts()[self.names.index(n)]})

    def _shifts(self) -> list[float]:
        return self.values("shift", self._usual_shifts())

    def _usual_shifts(self) -> list[float]:
        """``a_i = alpha^(1/2 - rank_i/(k-1))``."""
        return [self.alpha ** (0.5 - rank / (self.streams - 1)) for rank in self.ranks]
