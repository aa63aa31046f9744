"""What an encoder is: a frozen map from images to a latent stream, aligned with the pixel patches."""

from abc import abstractmethod
from pathlib import Path

from pydantic import Field
from torch import nn

from lf.data.base import Dataset
from lf.plugins import Plugin

LATENT_STD = 0.485
"""Standard deviation that whitened latents are scaled to: that of ImageNet's pixels in [-1, 1] (LF)."""

Encode = nn.Module
"""Float images ``(B, 3, H, W)`` in [-1, 1] → latents ``(B, C, H/patch, W/patch)``; frozen, moved by ``.to(device)``."""


class Encoder(Plugin):
    """An encoder's recipe. ``name`` and the fields are its identity; `load` gives the map itself."""

    loss_weight: float = Field(1.0, gt=0, description="λ of its stream in the loss")

    @abstractmethod
    def channels(self, patch: int) -> int:
        """C of the latent stream for pixel patches of side ``patch``."""

    @abstractmethod
    def load(self, data: Dataset, patch: int, cache: Path) -> Encode:
        """The encoder for a data set; what must be trained is trained once and kept under ``cache``."""

    def check(self) -> None:
        """Raises `UserError` if something that `load` will need, such as weights, is missing."""
