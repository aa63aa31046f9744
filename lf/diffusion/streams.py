"""A stream: one of the aligned signals that the model denoises."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stream:
    """Shape and weight of one stream. Pixels come first in every list of streams, then the latents.

    Attributes:
        name: ``pixels`` for the image itself, otherwise the encoder's name.
        channels: number of channels.
        size: height and width.
        patch: side of the square that becomes one token; ``size / patch`` is equal for all streams.
        loss_weight: λ of the stream in the loss.
    """

    name: str
    channels: int
    size: int
    patch: int
    loss_weight: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        return self.channels, self.size, self.size

    @property
    def grid(self) -> int:
        """Tokens along one side."""
        return self.size // self.patch
