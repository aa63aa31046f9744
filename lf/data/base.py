"""A set of labelled images held in memory as uint8."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Images:
    """Images with one class label each.

    Attributes:
        name: where they come from, as given in the config (``data=...``).
        digest: equal digest, equal images.
        images: ``(N, 3, H, W)`` uint8.
        labels: ``(N,)`` int64, in [0, number of classes).
        classes: names of the classes.
        facts: what a judge may learn to tell, beside the class: name → ``(N,)`` int64. Only a procedural
            set has any; no encoder is shown them.
    """

    name: str
    digest: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    facts: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def resolution(self) -> int:
        """Height and width in pixels."""
        return self.images.shape[-1]


def to_float(images: Tensor) -> Tensor:
    """uint8 [0, 255] → float32 [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Float [-1, 1] → uint8: ``(x+1)/2 · 255``, clipped and rounded."""
    return ((x.float() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
