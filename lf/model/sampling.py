"""Sampling of images from a network along any path, with or without guidance; each image has its own noise."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lf.config import Sampling, Training
from lf.core.errors import UserError
from lf.core.seeds import generator
from lf.data import to_uint8
from lf.diffusion.solver import sample
from lf.encoders import Codec
from lf.model.decoder import decoder_of
from lf.model.given import GivenStreams
from lf.model.velocity import GuidedVelocity
from lf.network import Network


class ImageSampler(nn.Module):
    """A network over the streams of a training config, with methods that sample images from it.

    Args:
        config: the training run.
        classes: number of classes; label ``classes`` means "no label".
    """

    def __init__(self, config: Training, classes: int):
        super().__init__()
        self.config, self.classes, self.streams = config, classes, config.streams
        self.network = Network(config.network, self.streams, classes)
        self.folder: Path | None = None  # of the run that it was loaded from, for decoders

    def images(self, indices: range, sampling: Sampling | None = None, **how: Any) -> tuple[Tensor, Tensor]:
        """Samples the images of ``indices``: uint8 ``(n, 3, H, W)`` and their labels ``(n,)``, on the CPU.

        Arguments and errors as in `samples`.
        """
        how["labels"] = self.labels(indices) if how.get("labels") is None else how["labels"]
        return torch.cat([to_uint8(x).cpu() for x in self.samples(indices, sampling, **how)]), how["labels"]

    @torch.no_grad()
    def samples(
        self,
        indices: range,
        sampling: Sampling | None = None,
        *,
        labels: Tensor | None = None,
        guide: "ImageSampler | None" = None,
        batch: int = 125,
        path: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Samples the images of ``indices`` batch by batch: float ``(n, 3, H, W)``, about [-1, 1], on the device.

        An image depends only on its own index and label, not on the batch or on the process that samples it.

        Args:
            indices: which images; an index determines an image's noise.
            sampling: path, solver, guidance, seed.
            labels: ``(n,)`` classes of the images; balanced by default. Ignored by a network that was trained without
                labels (``label_dropout=1``).
            guide: the weaker network, if the guidance needs one.
            batch: largest number of images at a time.
            path: the times of ``sampling``'s path, if they are known already.

        Raises:
            UserError: the guide is missing or has other streams or classes, path and steps do not fit, there are no
                images that streams could be given of, or an image is not finite.
        """
        path = (sampling or Sampling()).path_for(self.config) if path is None else path
        shown, codec = self.output_stream(path)
        done = 0
        for z in self.all_streams(indices, sampling, labels=labels, guide=guide, batch=batch, path=path):
            images = codec.decode(z[shown]) if codec else z[shown]
            finite = images.isfinite().flatten(1).all(1)
            if not finite.all():
                bad = indices[done + int((~finite).nonzero()[0, 0])]
                raise UserError(
                    f"{self.folder or 'this network'}: image {bad} is not finite; try another solver, a smaller "
                    "guidance.scale, or dtype=float32"
                )
            done += len(images)
            yield images

    @torch.no_grad()
    def all_streams(
        self,
        indices: range,
        sampling: Sampling | None = None,
        *,
        labels: Tensor | None = None,
        guide: "ImageSampler | None" = None,
        batch: int = 125,
        path: Tensor | None = None,
    ) -> Iterator[list[Tensor]]:
        """As `samples`, but all streams of the images: ``(n, C, H, W)`` each; also those that were given."""
        sampling = sampling or Sampling()
        path = sampling.path_for(self.config) if path is None else path
        device = next(self.parameters()).device
        weak = self._network_of(guide, sampling)
        given = self.given_streams(sampling)
        labels = self.labels(indices) if labels is None else labels
        # Equal parts, so that the network is compiled for one shape; the last part is filled up with its last image.
        size = -(-len(indices) // -(-len(indices) // batch))
        starts = range(0, len(indices), size)
        parts = [torch.arange(start, start + size).clamp_max(len(indices) - 1) for start in starts]
        noise = self._noise_ahead([[indices[row] for row in part.tolist()] for part in parts], sampling)
        for start, part, noises in zip(starts, parts, noise, strict=True):
            first, *fresh = [[e.to(device) for e in streams] for streams in noises]
            renoise = (sampling.latent_noise, [None, *fresh[0][1:]]) if fresh else None
            if given:
                rows = [indices[row] for row in part.tolist()]
                for i, x in given.streams(rows, labels[part], device).items():
                    first[i] = path[0, i].item() * x + (1 - path[0, i].item()) * first[i]
            y = labels[part] if self.config.label_dropout < 1 else torch.full_like(part, self.classes)
            velocity = GuidedVelocity(
                self.network, weak, sampling.guidance, sampling.t_clip, y.to(device), self.classes
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=sampling.dtype == "bfloat16"):
                z = sample(velocity, first, path, sampling.solver, renoise)
            yield [x[: len(indices) - start] for x in z]

    def given_streams(self, sampling: Sampling) -> GivenStreams | None:
        """Where ``sampling`` takes the streams from that it is given, if any."""
        return GivenStreams(self.config, sampling, self.classes) if sampling.given else None

    def _network_of(self, guide: "ImageSampler | None", sampling: Sampling) -> Network | None:
        """The guide's network, if there is one. Raises `UserError` if it is missing or has other streams or classes."""
        if guide is None:
            if "autoguidance" in sampling.guidance.kind:
                raise UserError(f"guidance.kind={sampling.guidance.kind}: needs the guide's network")
            return None
        theirs, ours = ([s.shape for s in some.streams] for some in (guide, self))
        if theirs != ours or guide.classes != self.classes:
            raise UserError(
                f"guidance.guide={sampling.guidance.guide}: its streams {theirs} and {guide.classes} classes must be "
                f"the model's: {ours}, {self.classes}"
            )
        return guide.network

    def _noise_ahead(self, parts: Sequence[Sequence[int]], sampling: Sampling) -> Iterator[list[list[Tensor]]]:
        """Noise of each part, and fresh noise for finished latents if needed; the next part's is drawn in parallel."""
        purposes = ["image", "latent noise"] if sampling.latent_noise else ["image"]

        def drawn(part: Sequence[int]) -> list[list[Tensor]]:
            return [self.noise(part, sampling.seed, purpose) for purpose in purposes]

        with ThreadPoolExecutor(1) as ahead:
            ready = None
            for part in parts:
                waiting = ahead.submit(drawn, part)
                if ready:
                    yield ready.result()
                ready = waiting
            if ready:
                yield ready.result()

    def labels(self, indices: Sequence[int]) -> Tensor:
        """Class-balanced labels ``(n,)``: image ``i`` has class ``i mod classes``."""
        return torch.tensor(indices) % self.classes

    def noise(self, indices: Sequence[int], seed: int, purpose: str = "image") -> list[Tensor]:
        """Each image's own noise, ``(n, C, H, W)`` per stream; that of stream i does not depend on later streams."""
        per_image = []
        for index in indices:
            draw = generator(purpose, seed, index)
            per_image.append([torch.randn(s.shape, generator=draw) for s in self.streams])
        return [torch.stack(stream) * self.config.noise_scale for stream in zip(*per_image, strict=True)]

    def output_stream(self, path: Tensor) -> tuple[int, Codec | None]:
        """The index of the stream that gives the images, and its decoder.

        It is the pixels (without a decoder), unless ``path`` does not move them; then it is a latent that has one.

        Raises:
            UserError: no latent has a decoder, or the decoder is not in the run store.
        """
        return (0, None) if path[-1, 0] > path[0, 0] else self._decoded

    @cached_property
    def _decoded(self) -> tuple[int, Codec]:
        stream, codec = decoder_of(self.config, self.folder)
        return stream, codec.to(next(self.parameters()).device)
