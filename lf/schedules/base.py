"""Interface of schedules: a training density over the cube of times, and a path through it.

Streams are ordered as in the model: pixels first, then the latents. On a path, the latents come first, in their order,
and the pixels last, unless a parameter reverses this.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from lf.core.errors import UserError
from lf.core.plugins import Plugin

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Times(NamedTuple):
    """Times and loss weights of a training batch, each ``(n, streams)``; times in [0, 1], 1 = clean; weights ≥ 0."""

    t: Tensor
    weight: Tensor


class Schedule(Plugin):
    """One immutable object for both training (`sample`) and sampling (`path`).

    A new schedule defines ``name``, its parameters, ``sample`` and ``curve``, and should pass the tests of
    `lf.schedules.conformance`.
    """

    streams: int = Field(2, ge=1, description="number of streams, pixels included")
    t_clip: float = Field(0.05, gt=0, le=1, description="lower bound of 1-t in the training velocity")
    has_path: ClassVar[bool] = True

    @abstractmethod
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Times:
        """Times and loss weights of ``n`` training samples, float32 on the CPU."""

    @abstractmethod
    def curve(self, u: Tensor) -> Tensor:
        """Times of all streams at global time ``u`` in [0, 1]: ``(...)`` → ``(..., streams)``."""

    def derivative(self, u: Tensor) -> Tensor:
        """``d curve / d u``, same shape as ``curve(u)``; one-sided at a kink."""
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            columns = self.curve(u).unbind(-1)
            return torch.stack([torch.autograd.grad(c.sum(), u, retain_graph=True)[0] for c in columns], -1)

    def path(self, steps: int) -> Tensor:
        """Time vectors from noise to clean data, ``(steps+1, streams)``, float64, non-decreasing.

        Raises:
            UserError: the path cannot be divided into ``steps`` steps.
        """
        if steps < 1:
            raise UserError(f"steps={steps}: {self.name} needs at least 1")
        return self.curve(torch.linspace(0, 1, steps + 1, dtype=torch.float64))

    def over(self, streams: int) -> "Schedule":
        """The same schedule for another number of streams. Raises `UserError` if it cannot be used with that number."""
        if streams == self.streams:
            return self
        try:
            return type(self)(**{**self.model_dump(), "streams": streams})
        except ValidationError:
            raise UserError(
                f"schedule={self.name}: cannot be used with {streams} stream(s); add a latent, such as latents=[tiny]"
            ) from None

    @property
    def ranks(self) -> list[int]:
        """Each stream's position in the order of generation: latents 0, 1, …, pixels last."""
        return [self.streams - 1, *range(self.streams - 1)]

    def plot(self, ax: "Axes", steps: int = 50, n: int = 2000, title: str = "") -> None:
        """Draws the training density (points) and the path (line) in the unit square.

        Histograms at the edges show the times at which each stream's own loss is trained. The axes are the times of
        the pixels and of the first latent; a single stream is drawn against itself.

        Args:
            ax: where to draw.
            steps: steps of the path.
            n: training samples to draw.
            title: by default the schedule's name.
        """
        y = min(1, self.streams - 1)
        times = self.sample(n, generator=torch.Generator().manual_seed(0))
        seen = times.weight[:, [0, y]].sum(1) > 0
        ax.scatter(times.t[seen, 0], times.t[seen, y], s=2, alpha=0.25, color="0.5", linewidths=0, rasterized=True)
        if self.has_path:
            path = self.path(steps)
            ax.plot(path[:, 0], path[:, y], marker=".", markersize=3, linewidth=1.2, clip_on=False)
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="$t$ pixels")
        ax.set_ylabel("$t$ latent" if y else "$t$ pixels")
        above, right = ax.inset_axes((0, 1.03, 1, 0.16), sharex=ax), ax.inset_axes((1.03, 0, 0.16, 1), sharey=ax)
        own, mass = times.t[:, [0, y]], times.weight[:, [0, y]]
        counts, _, _ = above.hist(own[:, 0], 25, range=(0, 1), weights=mass[:, 0], color="0.6")
        others, _, _ = right.hist(
            own[:, 1], 25, range=(0, 1), weights=mass[:, 1], color="0.6", orientation="horizontal"
        )
        most = max(*counts, *others)  # one scale for both, so that areas compare how often each stream is trained
        above.set_ylim(0, most)
        right.set_xlim(0, most)
        above.set_axis_off()
        right.set_axis_off()
        above.set_title(title or self.name, fontsize=8)


class LogitNormals(Schedule):
    """Base of schedules that train one stream per sample, at a logit-normal time of that stream."""

    p_latent: float = Field(0.4, ge=0, le=1, description="share of samples that train a latent")
    D_mean: float = Field(-1.2, description="mean of the logit of a latent's time")
    D_std: float = Field(1.0, gt=0, description="standard deviation of the logit of a latent's time")
    P_mean: float = Field(-0.4, description="mean of the logit of the pixels' time")
    P_std: float = Field(0.8, gt=0, description="standard deviation of the logit of the pixels' time")

    def draw(self, n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """The stream that each sample trains, ``(n,)`` integers, and that stream's time, ``(n,)`` in [0, 1].

        ``t = sigmoid(N(mean, std))``, with D_mean and D_std for latents and P_mean and P_std for pixels (LF).
        """
        latent = torch.rand(n, generator=generator) < self.p_latent
        if self.streams == 1:
            latent = torch.zeros(n, dtype=torch.bool)
        which = torch.randint(1, max(self.streams, 2), (n,), generator=generator)
        normal = torch.randn(n, generator=generator)
        t = torch.where(latent, self.D_mean + self.D_std * normal, self.P_mean + self.P_std * normal).sigmoid()
        return which * latent, t

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
