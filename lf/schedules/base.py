"""Interface of schedules: a training density over the cube of times, and a path through it.

Streams are ordered as in the model: pixels first, then the latents. On a path, the latents come first, in their order,
and the pixels last, unless a parameter says otherwise. A parameter can give values by stream name, such as
``mean={tiny: -0.4}``; `Schedule.over` tells the schedule the names.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

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
            made = type(self)(**{**self.model_dump(), "streams": number, "names": names})
        except ValidationError as error:
            if error.errors()[0]["loc"] != ("streams",):
                raise UserError(explain(error, type(self), where=self.name)) from None
            raise UserError(
                f"schedule={self.name}: cannot be used with {number} stream(s); add a latent, such as latents=[tiny]"
            ) from None
        made._check_shape()
        return made

    def _check_shape(self) -> None:
        """Raises `UserError` if it draws the times of another number of streams, as one written for two may do."""
        try:
            shape = tuple(self.sample(2, generator=torch.Generator()).t.shape)
        except (IndexError, RuntimeError, ValueError, TypeError) as error:
            fault = f"its sample fails ({' '.join(str(error).split())[:100]})"
        else:
            fault = "" if shape == (2, self.streams) else f"its sample gives {shape[-1]}"
        if fault:
            raise UserError(f"schedule={self.name}: cannot be used with {self.streams} streams: {fault}")

    @property
    def ranks(self) -> list[int]:
        """Each stream's position in the order of generation: latents 0, 1, …, pixels last."""
        return [self.streams - 1, *range(self.streams - 1)]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Every two streams, which are the axes of figures; a single stream with itself."""
        return list(combinations(range(self.streams), 2)) or [(0, 0)]

    def plot(
        self,
        ax: "Axes",
        steps: int = 50,
        n: int = 2000,
        title: str = "",
        pair: tuple[int, int] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        """Draws the training density (points) and the path (line) in the unit square of two streams' times.

        Histograms at the edges show the times at which each stream's own loss is trained.

        Args:
            ax: where to draw.
            steps: steps of the path, or a few more if it cannot be divided into so many.
            n: training samples to draw.
            title: by default the schedule's name.
            pair: the streams of the two axes; by default the first of `pairs`, the pixels and the first latent.
            names: the names of all streams, for the axes.
        """
        x, y = pair or self.pairs[0]
        label = (
            names
            or self.names
            or ("pixels", *(f"latent {i}" if self.streams > 2 else "latent" for i in range(1, self.streams)))
        )
        times = self.sample(n, generator=torch.Generator().manual_seed(0))
        seen = times.weight[:, [x, y]].sum(1) > 0
        ax.scatter(times.t[seen, x], times.t[seen, y], s=2, alpha=0.25, color="0.5", linewidths=0, rasterized=True)
        if self.has_path:
            path = self.path(self.steps_from(steps))
            ax.plot(path[:, x], path[:, y], marker=".", markersize=3, linewidth=1.2, clip_on=False)
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel=f"$t$ {label[x]}", ylabel=f"$t$ {label[y]}")
        above, right = ax.inset_axes((0, 1.03, 1, 0.16), sharex=ax), ax.inset_axes((1.03, 0, 0.16, 1), sharey=ax)
        own, mass = times.t[:, [x, y]], times.weight[:, [x, y]]
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
