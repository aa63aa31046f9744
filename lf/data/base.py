"""Interface of data sets: labelled images that are read by row, from memory or from disk."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lf.core.seeds import generator


class Batch(NamedTuple):
    """Images of a data set, in the requested order.

    Attributes:
        images: ``(B, 3, H, W)`` uint8.
        labels: ``(B,)`` int64.
        latents: cached latents, one ``(B, C, h, w)`` float32 per encoder; empty if none are cached.
        valid: ``(B,)`` bool; False where the file is damaged (the image is black, and its loss weight must be 0).
        damaged: ``name: error`` of each damaged file.
    """

    images: Tensor
    labels: Tensor
    latents: tuple[Tensor, ...]
    valid: Tensor
    damaged: tuple[str, ...] = ()


class Dataset(ABC):
    """Labelled square images, one per row.

    Attributes:
        name: the name in the config (``data=...``).
        digest: equal digest, equal images.
        classes: names of the classes.
        resolution: height and width in pixels.
    """

    name: str
    digest: str
    classes: tuple[str, ...]

    @property
    @abstractmethod
    def resolution(self) -> int: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, rows: Sequence[int] | Tensor, flip: Tensor | None = None) -> Batch:
        """Reads the images ``rows``; those where ``flip`` (``(B,)`` bool) is set are mirrored left to right."""

    def order(self, epoch: int, seed: int) -> Tensor:
        """The training order of an epoch: each row exactly once."""
        return torch.randperm(len(self), generator=generator("epoch", seed, epoch))


@dataclass(frozen=True, eq=False)
class Images(Dataset):
    """Images held in memory as uint8.

    Attributes:
        images: ``(N, 3, H, W)`` uint8.
        labels: ``(N,)`` int64, in [0, number of classes).
        facts: labels for the judge, in addition to the class: name → ``(N,)`` int64. Only procedural images have
            any; encoders never see them.
        latents: cached latents, one ``(flips, N, C, h, w)`` per encoder; the second flip, if any, is of the mirrored
            images.
    """

    name: str
    digest: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    facts: dict[str, Tensor] = field(default_factory=dict)
    latents: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def resolution(self) -> int:
        return self.images.shape[-1]

    def read(self, rows: Sequence[int] | Tensor, flip: Tensor | None = None) -> Batch:
        rows = torch.as_tensor(rows)
        images = self.images[rows]
        if flip is None:
            flip = torch.zeros(len(rows), dtype=torch.bool)
        else:
            images[flip] = images[flip].flip(-1)
        latents = tuple(latent[flip.long(), rows] for latent in self.latents)
        return Batch(images, self.labels[rows], latents, torch.ones(len(rows), dtype=torch.bool))


def some_of(names: Sequence[str]) -> str:
    """The first of many names, for a message."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def to_float(images: Tensor) -> Tensor:
    """uint8 [0, 255] → float32 [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Float [-1, 1] → uint8: ``(x+1)/2 · 255``, clipped and rounded."""
    return ((x.float() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
