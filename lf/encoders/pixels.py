"""`pixels`: the image itself at a quarter of the patch size, as a latent (LF Table 1, "pixels64")."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from torch import nn

from lf.core.errors import UserError
from lf.data.base import Dataset
from lf.encoders.base import Encode, Encoder


class Pixels(Encoder):
    """Average-pools each patch to ``cells`` × ``cells`` values, then space-to-depth.

    At 256 px and patch 16 this is the paper's 64 px image with 4×4 space-to-depth, ``(48, 16, 16)``.
    """

    name: Literal["pixels"] = "pixels"
    cells: int = Field(4, ge=1, description="values along one side of a patch")

    def channels(self, patch: int) -> int:
        if patch % self.cells:
            raise UserError(f"pixels.cells={self.cells}: must divide the patch size {patch}")
        return 3 * self.cells**2

    def load(self, data: Dataset, patch: int, cache: Path) -> Encode:
        return nn.Sequential(nn.AvgPool2d(patch // self.cells), nn.PixelUnshuffle(self.cells)).eval()
