"""Interface of schedules: a training density over the cube of times, and a path through it.

Streams are ordered as in the model: pixels first, then the latents. On a path, the latents come first, in their order,
and the pixels last, unless a parameter says otherwise. A parameter can give values by stream name, such as
``mean={tiny: -0.4}``; `Schedule.over` tells the schedule the names.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Self

import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor

from lf.core.errors import UserError, nearest
from lf.core.parsing import explain, optional
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

    Attributes:
        BY_NAME: the parameters whose values are given by stream name.
    """

    streams: int = Field(2, ge=1, description="number of streams, pixels included")
    names: tuple[str, ...] = optional((), description="names of the streams, where a value is given by name")
    t_clip: float = Field(0.05, gt=0, le=1, description="lower bound of 1-t in the training velocity")
    has_path: ClassVar[bool] = True
    BY_NAME: ClassVar[tuple[str, ...]] = ()

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # values by name are dicts

    @model_validator(mode="after")
    def _with_names(self) -> Self:
        if self.names:
            if len(self.names) != self.streams:
                raise ValueError(f"names={list(self.names)}: must be {self.streams}, one per stream")
            self.bind()
        if not self.by_name:
            self._set(names=())
        return self

    @property
    def by_name(self) -> bool:
        """Whether some value is given by stream name."""
        return any(getattr(self, parameter) for parameter in self.BY_NAME)

    def bind(self) -> None:
        """Checks the values by name, once ``names`` are known. Values that need no name may be set without one.

        Raises:
            ValueError: no stream has such a name.
        """
        for parameter in self.BY_NAME:
            values = getattr(self, parameter)
            for name in values if isinstance(values, Mapping) else ():
                if name not in self.names:
                    raise ValueError(f"{parameter}.{name}: no such stream; {nearest(name, self.names)}")

    def values(self, parameter: str, usual: Sequence[float]) -> list[float]:
        """A parameter's value for each stream: by name if it is given, else the ``usual`` one.

        Raises:
            UserError: values are given by name, and the names are unknown.
        """
        given = getattr(self, parameter)
        if not given:
            return list(usual)
        return [given.get(name, value) for name, value in zip(self.known_names(), usual, strict=True)]

    def known_names(self) -> tuple[str, ...]:
        """The names of the streams. Raises `UserError` if they are unknown."""
        if not self.names:
            raise UserError(
                f"{self.name}: a value is given by stream name; give the streams' names, or use over(names)"
            )
        return self.names

    def _set(self, **values: Any) -> None:
        for key, value in values.items():
            object.__setattr__(self, key, value)

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

    def steps_from(self, least: int) -> int:
        """The smallest number of steps, ``least`` or more, that the path can be divided into."""
        return least

    def over(self, streams: int | Sequence[str]) -> Self:
        """The same schedule for other streams, given by their number or their names, pixels first.

        Raises:
            UserError: it cannot be used with so many streams, or a value is given for a stream that is not there.
        """
        names = () if isinstance(streams, int) or not self.by_name else tuple(streams)
        number = streams if isinstance(streams, int) else len(streams)
        if (number, names) == (self.streams, self.names):
            return self
        try:
            return type(self)(**{**self.model_dump(), "streams": number, "names": names})
        except ValidationError as error:
            if error.errors()[0]["loc"] != ("streams",):
                raise UserError(explain(error, type(self), where=self.name)) from None
            raise UserError(
                f"schedule={self.name}: cannot be used with {number} stream(s); add a latent, such as latents=[tiny]"
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
            path = self.path(self.steps_from(steps))
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
