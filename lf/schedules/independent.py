"""`independent`: every stream draws its own time, so that one model can be sampled along any path."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from lf.core.errors import UserError
from lf.diffusion.flow import shift
from lf.schedules.base import Schedule, Times


class Independent(Schedule):
    """Multi-Schedule training (LF): ``t_i = f_{time_shift}(U[0,1])``, with the losses of all streams.

    It has no path: sample along the path of another schedule.
    """

    name: Literal["independent"] = "independent"
    t_clip: float = Field(1 / 3, gt=0, le=1)
    time_shift: float = Field(0.5, gt=0, description="shift of all times (LF Eq. 4)")
    has_path: ClassVar[bool] = False

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Times:
        t = shift(torch.rand(n, self.streams, generator=generator), self.time_shift)
        return Times(t, torch.ones_like(t))

    def curve(self, u: Tensor) -> Tensor:
        raise UserError("independent has no path; name another schedule's, such as path=shifted path.alpha=9")

    def path(self, steps: int) -> Tensor:
        return self.curve(torch.empty(0))
