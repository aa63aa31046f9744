"""What a schedule is: a training density over the cube of times, and a path through it.

Streams are numbered as in the model: pixels first, then the latents. On a path the latents come in
their order and the pixels last, unless a parameter turns that round.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from lf.errors import UserError
from lf.plugins import Plugin

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Times(NamedTuple):
    """A training batch's times and loss weights, each ``(n, streams)``; times in [0, 1], 1 = clean."""

    t: Tensor
    weight: Tensor


class Schedule(Plugin):
    """One immutable object that answers training (`sample`) and sampling (`path`) alike.

    A new schedule gives ``name``, its parameters, ``sample`` and ``curve``; see
    `lf.schedules.conformance` for the test class that it should pass.
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
        """Time vectors from all-noise to all-clean, ``(steps+1, streams)``, float64, non-decreasing.

        Raises:
            UserError: if the path cannot be cut into ``steps`` steps.
        """
        if steps < 1:
            raise UserError(f"steps={steps}: {self.name} needs at least 1")
        return self.curve(torch.linspace(0, 1, steps + 1, dtype=torch.float64))

    def over(self, streams: int) -> "Schedule":
        """The same schedule for another number of streams. Raises `UserError` if it has no meaning there."""
        if streams == self.streams:
            return self
        try:
            return type(self)(**{**self.model_dump(), "streams": streams})
        except ValidationError:
            raise UserError(
                f"schedule={self.name}: has no meaning over {streams} stream(s); add a latent, such as latents=[tiny]"
            ) from None

    @property
    def ranks(self) -> list[int]:
        """Each stream's place in the order of generation: latents 0, 1, …, pixels last."""
        return [self.streams - 1, *range(self.streams - 1)]

    def plot(self, ax: "Axes", steps: int = 50, n: int = 2000, title: str = "") -> None:
        """Draws the training density (points) and the path (line) in the unit square.

        Along the edges stand the densities of the times at which each stream's own loss counts. The square is pixels
        against the first latent; a schedule over one stream is drawn against itself. ``title`` is its name by default.
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
        most = max(*counts, *others)  # one scale for both: a stream that is trained seldom has the smaller area
        above.set_ylim(0, most)
        right.set_xlim(0, most)
        above.set_axis_off()
        right.set_axis_off()
        above.set_title(title or self.name, fontsize=8)


class LogitNormals(Schedule):
    """Shared by the schedules that train one stream a sample, at a logit-normal time of its own."""

    p_latent: float = Field(0.4, ge=0, le=1, description="share of samples that train a latent")
    D_mean: float = -1.2
    D_std: float = Field(1.0, gt=0)
    P_mean: float = -0.4
    P_std: float = Field(0.8, gt=0)

    def draw(self, n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """The stream that each sample trains, ``(n,)`` integers, and that stream's time, ``(n,)``.

        ``t = sigmoid(N(mean, std))``, with D_* for latents and P_* for pixels (LF).
        """
        latent = torch.rand(n, generator=generator) < self.p_latent
        if self.streams == 1:
            latent = torch.zeros(n, dtype=torch.bool)
        which = torch.randint(1, max(self.streams, 2), (n,), generator=generator)
        normal = torch.randn(n, generator=generator)
        t = torch.where(latent, self.D_mean + self.D_std * normal, self.P_mean + self.P_std * normal).sigmoid()
        return which * latent, t

    def one_hot(self, stream: Tensor) -> Tensor:
        """Loss weights ``(n, streams)`` that switch on each sample's own stream."""
        return torch.nn.functional.one_hot(stream, self.streams).float()


class Curved(LogitNormals):
    """Shared by the schedules that train ON their curve: one stream draws its time, the others follow."""

    @abstractmethod
    def inverse(self, t: Tensor, stream: int) -> Tensor:
        """The global time at which ``stream`` reaches ``t``; the last such time where it stands still at 0."""

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Times:
        stream, t = self.draw(n, generator)
        u = torch.stack([self.inverse(t, i) for i in range(self.streams)], -1)
        u = u.gather(-1, stream[:, None])[:, 0]
        times = self.curve(u).scatter(-1, stream[:, None], t[:, None])  # its own time exactly
        return Times(times, self.one_hot(stream))

    def path(self, steps: int) -> Tensor:
        """Points spread evenly along ALL streams (LF).

        Equal steps of every stream's own time, mapped to global time, sorted together; of the k·(steps+1)
        points every k-th is kept.
        """
        if steps < 1:
            raise UserError(f"steps={steps}: {self.name} needs at least 1")
        t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        u = torch.cat([self.inverse(t, i) for i in range(self.streams)]).sort().values
        return self.curve(u[:: self.streams])
