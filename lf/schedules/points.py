"""`points`: any path, as a polyline through given points."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from lf.core.errors import UserError, nearest
from lf.core.parsing import optional, read_yaml
from lf.schedules.base import Schedule
from lf.schedules.logit_normal import Curved, LogitNormals

STEPS = "piece_steps"


class Points(Curved):
    """The streams follow straight lines from point to point; it trains on this curve.

    Args:
        points: the points, each with the times of all streams, pixels first; or the times of each stream by name; or
            a YAML file of these, which may hold ``piece_steps``, too. The first is 0 and the last 1 for all streams.
            By default all streams go straight from 0 to 1.
        piece_steps: how the steps are divided among the pieces between the points; by default according to their
            length, so that steps are about equally long.
    """

    name: Literal["points"] = "points"
    streams: int = Field(2, ge=1)
    points: tuple[tuple[float, ...], ...] | dict[str, tuple[float, ...]] = Field(
        (), description="[[0,0],[0.05,0.7],[1,1]], pixels first; or each stream's times by name; or FILE.yaml"
    )
    piece_steps: tuple[int, ...] = optional((), description="steps of each piece between two points, or their ratio")
    BY_NAME: ClassVar[tuple[str, ...]] = LogitNormals.BY_NAME

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("points", ()) in ((), []):
            return values
        values, points, where = dict(values), values["points"], ""
        if isinstance(points, str):
            where = f"{points}: "
            points = _file(points)
            if STEPS in points:
                values.setdefault(STEPS, points.pop(STEPS))
        values["points"] = _checked(points, where)
        columns = len(values["points"] if isinstance(points, Mapping) else values["points"][0])
        return {"streams": columns} | values

    @property
    def by_name(self) -> bool:
        return super().by_name or isinstance(self.points, Mapping)

    def bind(self) -> None:
        """Puts the times of each stream in the order of the streams."""
        super().bind()
        if isinstance(self.points, Mapping):
            for name in self.points:
                if name not in self.names:
                    raise ValueError(f"points.{name}: no such stream; {nearest(name, self.names)}")
            if missing := [name for name in self.names if name not in self.points]:
                raise ValueError(f"they lack {', '.join(missing)}")
            self._set(points=tuple(zip(*(self.points[name] for name in self.names), strict=True)))

    @model_validator(mode="after")
    def _fits(self) -> "Points":
        columns = len(self.points if isinstance(self.points, Mapping) else self._points()[0])
        if columns != self.streams:
            raise ValueError(f"they are of {columns} streams and must be of {self.streams}, pixels first")
        if self.piece_steps and (min(self.piece_steps) < 1 or len(self.piece_steps) != len(self._points()) - 1):
            raise ValueError(
                f"piece_steps={list(self.piece_steps)}: must be {len(self._points()) - 1} numbers, one per piece, of 1 "
                "or more"
            )
        return self

    def _points(self) -> Sequence[Sequence[float]]:
        """The points; the order of the streams is arbitrary as long as the names are unknown."""
        if isinstance(self.points, Mapping):
            return list(zip(*self.points.values(), strict=True))
        return self.points or ([0.0] * self.streams, [1.0] * self.streams)

    @property
    def _pieces(self) -> int:
        return len(self._points()) - 1

    def curve(self, u: Tensor) -> Tensor:
        """``t = a + (b - a) s`` at the share ``s`` of the piece from point a to point b."""
        knots, piece = self._knots(u), self._piece(u)
        return self._at(piece, (u - knots[piece]) / knots.diff()[piece])

    def derivative(self, u: Tensor) -> Tensor:
        """``t' = (b - a) / (length of the piece in global time)``."""
        piece = self._piece(u)
        return self._rows(u).diff(dim=0)[piece] / self._knots(u).diff()[piece][..., None]

    def inverse(self, t: Tensor, stream: int) -> Tensor:
        """The first global time at which ``stream`` reaches ``t``; for ``t = 0``, the time at which it starts."""
        knots, values = self._knots(t), self._rows(t)[:, stream].contiguous()
        starts = int((values > 0).nonzero()[0])
        end = torch.searchsorted(values, t.detach().contiguous()).clamp(starts, self._pieces)
        share = (t - values[end - 1]) / (values[end] - values[end - 1])
        return knots[end - 1] + share * (knots[end] - knots[end - 1])

    def path(self, steps: int) -> Tensor:
        """Equal steps on each piece, through every point; with fewer steps than pieces, equal steps of global time."""
        if steps < self._pieces:
            return Schedule.path(self, steps)
        counts, sizes = [0] * self._pieces, self._sizes()
        for _ in range(steps):  # the next step goes to the piece whose steps are the longest
            longest = max(range(self._pieces), key=lambda i: sizes[i] / counts[i] if counts[i] else float("inf"))
            counts[longest] += 1
        share = torch.cat([torch.arange(n, dtype=torch.float64) / n for n in counts] + [torch.ones(1).double()])
        return self._at(
            torch.arange(self._pieces).repeat_interleave(torch.tensor([*counts[:-1], counts[-1] + 1])), share
        )

    def _at(self, piece: Tensor, share: Tensor) -> Tensor:
        rows = self._rows(share)
        a, b = rows[piece], rows[piece + 1]
        return torch.minimum(a + (b - a) * share[..., None], b)  # rounding never overshoots

    def _piece(self, u: Tensor) -> Tensor:
        return (torch.searchsorted(self._knots(u), u.detach().contiguous(), right=True) - 1).clamp(0, self._pieces - 1)

    def _rows(self, like: Tensor) -> Tensor:
        if self.by_name:
            self.known_names()
        return like.new_tensor(self._points())

    def _knots(self, like: Tensor) -> Tensor:
        """Global time at each point: every piece lasts as long as its share of the steps."""
        ends = [0.0, *accumulate(self._sizes())]
        return like.new_tensor([end / ends[-1] for end in ends])

    def _sizes(self) -> list[float]:
        """What the pieces' steps are proportional to: `piece_steps`, or the lengths, summed over streams."""
        return [float(n) for n in self.piece_steps] or [sum(b) - sum(a) for a, b in pairwise(self._points())]


def _file(name: str) -> dict[str, Any]:
    """What a file of points holds. Raises `UserError` if it cannot be read or holds something else."""
    found = read_yaml(name, "points")
    if not isinstance(found, dict):
        raise UserError(f"points={name}: must hold the times of each stream by name, such as 'pixels: [0, 0.05, 1]'")
    return {str(key): value for key, value in found.items()}


def _checked(points: Any, where: str) -> Any:
    """Points as tuples. Raises `ValueError` unless they run from 0 to 1, never backwards."""
    named = isinstance(points, Mapping)
    lists = list(points.values()) if named else points
    wanted = f"{where}must be lists of numbers of equal length, such as [[0, 0], [0.05, 0.7], [1, 1]], or by name"
    if not isinstance(lists, Sequence) or isinstance(lists, str) or not lists:
        raise ValueError(wanted)
    for some in lists:
        if not isinstance(some, Sequence) or isinstance(some, str) or len(some) != len(lists[0]) or not len(some):
            raise ValueError(wanted)
        if not all(isinstance(t, int | float) and not isinstance(t, bool) for t in some):
            raise ValueError(wanted)
        if not all(0 <= t <= 1 for t in some):
            raise ValueError(f"{where}{list(some)}: times are numbers from 0 to 1")
    rows = [tuple(map(float, row)) for row in (zip(*lists, strict=True) if named else lists)]
    if len(rows) < 2 or any(rows[0]) or any(t != 1 for t in rows[-1]):
        raise ValueError(
            f"{where}must start at 0 and end at 1, for all streams; it is {list(rows[0])} to {list(rows[-1])}"
        )
    for number, (a, b) in enumerate(pairwise(rows), 2):
        if not all(now <= then for now, then in zip(a, b, strict=True)):
            raise ValueError(f"{where}time runs backwards from point {number - 1}, {list(a)}, to {list(b)}")
        if a == b:
            raise ValueError(f"{where}point {number}, {list(b)}, is the one before again")
    return {str(name): tuple(map(float, some)) for name, some in points.items()} if named else tuple(rows)
