"""What an encoder is: a frozen map from images to a latent stream, aligned with the pixel patches."""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from lf.data.base import Dataset
from lf.errors import UserError
from lf.plugins import Plugin
from lf.streams import Stream

LATENT_STD = 0.485
"""Standard deviation that whitened latents are scaled to: that of ImageNet's pixels in [-1, 1] (LF)."""

Encode = nn.Module
"""Float images ``(B, 3, H, W)`` in [-1, 1] → latents ``(B, C, H/cell, W/cell)``; frozen, moved by ``.to(device)``."""


class Codec(nn.Module):
    """An `Encode` that knows the way back."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents → images ``(B, 3, H, W)`` in [-1, 1]."""


class Encoder(Plugin):
    """An encoder's recipe. ``name`` and the fields are its identity; `load` gives the map itself."""

    loss_weight: float = Field(1.0, gt=0, description="λ of its stream in the loss")
    has_decoder: ClassVar[bool] = False
    is_trained: ClassVar[bool] = False
    """Whether `load` trains it, which may take long."""

    @abstractmethod
    def channels(self, patch: int) -> int:
        """C of the latent stream for pixel patches of side ``patch``. Raises `UserError` if they do not fit."""

    def cell(self, patch: int) -> int:
        """Side, in pixels, of what one vector of the latent stands for; it divides ``patch``."""
        return patch

    def stream(self, resolution: int, patch: int) -> Stream:
        """The latent stream: one token a pixel patch, whatever the number of cells in it."""
        channels, cell = self.channels(patch), self.cell(patch)
        return Stream(self.name, channels, resolution // cell, patch // cell, self.loss_weight)

    @abstractmethod
    def load(self, data: Dataset, patch: int, cache: Path) -> Encode:
        """The encoder for a data set; what must be trained is trained once and kept under ``cache``."""

    def codec(self, digest: str, patch: int, cache: Path) -> Codec:
        """What `load` gave for the data of ``digest``, by what it kept under ``cache`` and without images.

        Raises:
            UserError: what `load` kept is not there, or the encoder has no decoder.
        """
        raise UserError(f"{self.name}: has no decoder")

    def check(self) -> None:
        """Raises `UserError` if something that `load` will need, such as weights, is missing."""
