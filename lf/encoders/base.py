"""Interface of encoders: a frozen map from images to a latent stream, aligned with the pixel patches."""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from lf.core.errors import UserError
from lf.core.plugins import Plugin
from lf.data.base import Dataset
from lf.diffusion.streams import Stream
from lf.encoders.weights import digest

LATENT_STD = 0.485
"""Standard deviation of whitened latents: that of ImageNet's pixels in [-1, 1] (LF)."""

Encode = nn.Module
"""Float images ``(B, 3, H, W)`` in [-1, 1] → latents ``(B, C, H/cell, W/cell)``; frozen, moved by ``.to(device)``."""


class Codec(nn.Module):
    """An `Encode` with a decoder."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents → images ``(B, 3, H, W)`` in [-1, 1]."""


class Encoder(Plugin):
    """The recipe of an encoder. ``name`` and the fields are its identity; `load` returns the map itself."""

    loss_weight: float = Field(1.0, gt=0, description="λ of its stream in the loss")
    has_decoder: ClassVar[bool] = False
    is_trained: ClassVar[bool] = False
    """Whether `load` trains it, which may take a long time."""
    files: ClassVar[tuple[str, ...]] = ()
    """Fields that may name a local file or folder: in a run's identity its content counts, not its name."""

    def contents(self) -> dict[str, str]:
        """Hash of each local file or folder that `files` name, by field; ``align.weights`` for a field's encoder."""
        places = {name: Path(getattr(self, name)) for name in self.files if getattr(self, name)}
        found = {name: digest(place)[:16] for name, place in places.items() if place.exists()}
        for name in type(self).model_fields:
            if isinstance(inner := getattr(self, name), Encoder):
                found |= {f"{name}.{key}": value for key, value in inner.contents().items()}
        return found

    @abstractmethod
    def channels(self, patch: int) -> int:
        """Channels of the latent stream for pixel patches of side ``patch``. Raises `UserError` if they do not fit."""

    def cell(self, patch: int) -> int:
        """Side, in pixels, of the cell that one vector of the latent encodes; it divides ``patch``."""
        return patch

    def stream(self, resolution: int, patch: int) -> Stream:
        """The latent stream: one token per pixel patch, for any number of cells in it."""
        channels, cell = self.channels(patch), self.cell(patch)
        return Stream(self.name, channels, resolution // cell, patch // cell, self.loss_weight)

    @abstractmethod
    def load(self, data: Dataset, patch: int, cache: Path) -> Encode:
        """The encoder for a data set; if it must be trained, it is trained once and cached under ``cache``."""

    def codec(self, digest: str, patch: int, cache: Path) -> Codec:
        """The encoder of `load` with its decoder, from the files under ``cache``, without images.

        Args:
            digest: digest of the data that `load` was called with.
            patch: side of a pixel patch.
            cache: folder in which `load` cached its files.

        Raises:
            UserError: the cached files are missing, or the encoder has no decoder.
        """
        raise UserError(f"{self.name}: has no decoder")

    def check(self) -> None:
        """Raises `UserError` if something that `load` needs, such as weights, is missing."""
