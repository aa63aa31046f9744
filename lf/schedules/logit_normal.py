"""Bases of schedules that train one stream per sample, at a logit-normal time of it."""

from abc import abstractmethod
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lf.core.errors import UserError
from lf.core.parsing import optional
from lf.schedules.base import Schedule, Times


class LogitNormals(Schedule):
    """Base of schedules that train one stream per sample, at a logit-normal time of that stream.

    For two streams the usual words say all; with several latents, ``mean``, ``std`` and ``share`` can say it by name.
    """

    p_latent: float = Field(0.4, ge=0, le=1, description="share of samples that train a latent")
    D_mean: float = Field(-1.2, description="mean of the logit of a latent's time")
    D_std: float = Field(1.0, gt=0, description="standard deviation of the logit of a latent's time")
    P_mean: float = Field(-0.4, description="mean of the logit of the pixels' time")
    P_std: float = Field(0.8, gt=0, description="standard deviation of the logit of the pixels' time")
    mean: dict[str, float] = optional({}, description="D_mean or P_mean by stream name")
    std: dict[str, Annotated[float, Field(gt=0)]] = optional({}, description="D_std or P_std by stream name")
    share: dict[str, Annotated[float, Field(ge=0, le=1)]] = optional(
        {}, description="share of samples that train a stream, by name; the other streams divide the rest"
    )
    BY_NAME: ClassVar[tuple[str, ...]] = ("mean", "std", "share")

    def bind(self) -> None:
        """Says by the usual words what they can say, so that equal schedules are equal runs."""
        super().bind()
        pixels, *latents = self.names
        for parameter, of_pixels, of_latents in (("mean", "P_mean", "D_mean"), ("std", "P_std", "D_std")):
            given = dict(getattr(self, parameter))
            self._set(**{of_pixels: given.pop(pixels, getattr(self, of_pixels))})
            if len(latents) == 1:
                self._set(**{of_latents: given.pop(latents[0], getattr(self, of_latents))})
            self._set(**{parameter: {n: v for n, v in given.items() if v != getattr(self, of_latents)}})
        total = sum(self.share.values())
        if total > 1 + 1e-9 or (len(self.share) == self.streams and total < 1 - 1e-9):
            raise ValueError(f"share={self.share}: the shares must add up to 1, or to less if a stream is left out")
        if len(latents) == 1 and latents[0] in self.share:
            self._set(p_latent=self.share[latents[0]], share={})
        elif {*self.share} == {pixels}:
            self._set(p_latent=1 - self.share[pixels], share={})

    def draw(self, n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """The stream that each sample trains, ``(n,)`` integers, and that stream's time, ``(n,)`` in [0, 1].

        ``t = sigmoid(N(mean, std))``, with D_mean and D_std for latents and P_mean and P_std for pixels (LF).
        """
        uniform = torch.rand(n, generator=generator)
        latent = torch.randint(1, max(self.streams, 2), (n,), generator=generator)
        normal = torch.randn(n, generator=generator)
        if self.share:
            stream = (
                torch.searchsorted(self._shares().roll(-1).cumsum(0)[:-1], uniform, right=True) + 1
            ) % self.streams
        else:
            stream = latent * (uniform < self.p_latent) * (self.streams > 1)
        latents = self.streams - 1
        mean = torch.tensor(self.values("mean", [self.P_mean, *[self.D_mean] * latents]))
        std = torch.tensor(self.values("std", [self.P_std, *[self.D_std] * latents]))
        return stream, (mean[stream] + std[stream] * normal).sigmoid()

    def _shares(self) -> Tensor:
        """The share of samples that train each stream; streams without a given one divide the rest as p_latent says."""
        latents = max(self.streams - 1, 1)
        usual = [1 - self.p_latent, *[self.p_latent / latents] * latents]
        given = [name in self.share for name in self.known_names()]
        rest = sum(value for value, is_given in zip(usual, given, strict=True) if not is_given)
        left = 1 - sum(self.share.values())
        parts = [value * left / rest if rest else left / max(given.count(False), 1) for value in usual]
        return torch.tensor(self.values("share", parts))

    def one_hot(self, stream: Tensor) -> Tensor:
        """Loss weights ``(n, streams)``: 1 for the stream that a sample trains, else 0."""
        return torch.nn.functional.one_hot(stream, self.streams).float()


class Curved(LogitNormals):
    """Base of schedules that train on their curve: one stream draws its time, and the curve gives the other times."""

    @abstractmethod
    def inverse(self, t: Tensor, stream: int) -> Tensor:
        """The global time at which ``stream`` reaches ``t``; for ``t = 0``, the time at which it starts to move."""

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Times:
        stream, t = self.draw(n, generator)
        u = torch.stack([self.inverse(t, i) for i in range(self.streams)], -1)
        u = u.gather(-1, stream[:, None])[:, 0]
        times = self.curve(u).scatter(-1, stream[:, None], t[:, None])  # exact, free of rounding
        return Times(times, self.one_hot(stream))

    def path(self, steps: int) -> Tensor:
        """Points spread evenly along all k streams (LF).

        Equal steps of every stream's own time are mapped to global time and sorted together; every k-th of the
        k·(steps+1) points is kept.
        """
        if steps < 1:
            raise UserError(f"steps={steps}: {self.name} needs at least 1")
        t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        u = torch.cat([self.inverse(t, i) for i in range(self.streams)]).sort().values
        return self.curve(u[:: self.streams])
