"""What a data set is: labelled images that can be asked for by number, in memory or on disk."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lf.seeds import generator


class Batch(NamedTuple):
    """Some images of a data set, in the order they were asked for.

    Attributes:
        images: ``(B, 3, H, W)`` uint8.
        labels: ``(B,)`` int64.
        latents: cached latents, one ``(B, C, h, w)`` float32 an encoder; empty where nothing is cached.
        valid: ``(B,)`` bool; False where the file is damaged (its image is black and must count nothing).
        damaged: names of the damaged files, with the fault.
    """

    images: Tensor
    labels: Tensor
    latents: tuple[Tensor, ...]
    valid: Tensor
    damaged: tuple[str, ...] = ()


class Dataset(ABC):
    """Labelled square images, numbered.

    Attributes:
        name: where they come from, as given in the config (``data=...``).
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
        """The images ``rows``; those where ``flip`` (``(B,)`` bool) is set are mirrored left to right."""

    def order(self, epoch: int, seed: int) -> Tensor:
        """The rows of an epoch in the order they are trained on: each exactly once."""
        return torch.randperm(len(self), generator=generator("epoch", seed, epoch))


@dataclass(frozen=True, eq=False)
class Images(Dataset):
    """Images held in memory as uint8.

    Attributes:
        images: ``(N, 3, H, W)`` uint8.
        labels: ``(N,)`` int64, in [0, number of classes).
        facts: what a judge may learn to tell, beside the class: name → ``(N,)`` int64. Only a procedural
            set has any; no encoder is shown them.
        latents: cached latents, one ``(flips, N, C, h, w)`` an encoder: as they are and, with two, mirrored.
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


def to_float(images: Tensor) -> Tensor:
    """uint8 [0, 255] → float32 [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Float [-1, 1] → uint8: ``(x+1)/2 · 255``, clipped and rounded."""
    return ((x.float() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
