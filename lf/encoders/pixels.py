"""`pixels`: the image itself at a quarter of the patch size, as a latent (LF Table 1, "pixels64")."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from lf.core.errors import UserError
from lf.core.parsing import optional
from lf.data.base import Dataset
from lf.encoders.base import Encode, Encoder


class Pixels(Encoder):
    """Average-pools each patch to ``cells`` × ``cells`` values, then space-to-depth.

    At 256 px and patch 16 this is the paper's 64 px image with 4×4 space-to-depth, ``(48, 16, 16)``. LF's public code
    has its values in [0, 1] (``unit=true``), half as far apart as those in [-1, 1]: the same path is another order.
    """

    name: Literal["pixels"] = "pixels"
    cells: int = Field(4, ge=1, description="values along one side of a patch")
    unit: bool = optional(False, description="values in [0, 1], as in LF's public code, instead of [-1, 1]")

    def channels(self, patch: int) -> int:
        if patch % self.cells:
            raise UserError(f"pixels.cells={self.cells}: must divide the patch size {patch}")
        return 3 * self.cells**2

    def load(self, data: Dataset, patch: int, cache: Path) -> Encode:
        layers = [nn.AvgPool2d(patch // self.cells), nn.PixelUnshuffle(self.cells)]
        return nn.Sequential(*layers, *([ToUnit()] if self.unit else [])).eval()


class ToUnit(nn.Module):
    """[-1, 1] → [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2
