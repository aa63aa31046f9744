"""Streams of held-out real images, for sampling that does not generate them."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from lf import data
from lf.config import Sampling, Training
from lf.core.errors import UserError
from lf.data import Dataset, Shards, to_float


class GivenStreams:
    """Takes for each sampled image a held-out image of its class, all images of a class in turn.

    Args:
        config: the training, whose encoders make the latents.
        sampling: says which streams are given, and of which images.
        classes: number of classes of the network.

    Raises:
        UserError: the images have other classes.
    """

    def __init__(self, config: Training, sampling: Sampling, classes: int):
        self.config, self.sampling = config, sampling
        self.given = [i for i, name in enumerate(config.stream_names) if name in sampling.given]
        images = self.images
        if len(images.classes) != classes:
            raise UserError(f"given_data={images.name}: has {len(images.classes)} classes, and the network {classes}")

    @cached_property
    def images(self) -> Dataset:
        """The images: ``given_data``, or those that the training's data holds out."""
        config, name = self.config, self.sampling.given_data
        cache = config.runtime.cache
        if name:
            return data.open(name, config.resolution, cache)
        return data.load(config.data, config.resolution, "test", cache)

    @cached_property
    def _rows(self) -> list[Tensor]:
        """The rows of the images of each class."""
        images = self.images
        labels = images.samples["label"] if isinstance(images, Shards) else images.labels  # type: ignore[attr-defined]
        return [(labels == label).nonzero()[:, 0] for label in range(len(images.classes))]

    @cached_property
    def _encoders(self) -> dict[int, nn.Module]:
        """The encoders of the given latents, by stream."""
        config, cache = self.config, self.config.runtime.cache
        latents = [i for i in self.given if i]
        seen = data.open(config.data or self.images.name, config.resolution, cache) if latents else self.images
        return {i: config.latents[i - 1].load(seen, config.network.patch, cache) for i in latents}

    def pictures(self, indices: Sequence[int], labels: Tensor) -> Tensor:
        """The image that each sampled image is taken from, uint8 ``(n, 3, H, W)``.

        Args:
            indices: the sampled images.
            labels: their classes ``(n,)``.

        Raises:
            UserError: a class has no image, or an image cannot be read.
        """
        chosen, classes = [], len(self._rows)
        for index, label in zip(indices, labels.tolist(), strict=True):
            rows = self._rows[label]
            if not len(rows):
                raise UserError(f"given_data={self.images.name}: has no image of class '{self.images.classes[label]}'")
            # Balanced labels count through a class. Other labels skip a part of it, to find other images.
            number = index // classes + (index - label) % classes * -(-len(rows) // classes)
            chosen.append(rows[number % len(rows)])
        read = self.images.read(torch.stack(chosen))
        if read.damaged:
            raise UserError(f"given_data={self.images.name}: cannot read {read.damaged[0]}")
        return read.images

    def streams(self, indices: Sequence[int], labels: Tensor, device: torch.device) -> dict[int, Tensor]:
        """The given streams of these images, clean, ``(n, C, H, W)`` by number of the stream. Arguments as before."""
        pixels = to_float(self.pictures(indices, labels).to(device))
        with torch.no_grad():
            return {i: self._encoders[i].to(device)(pixels) if i else pixels for i in self.given}
