"""The space of a guidance search: its typed description, and the evaluation of each point."""

import itertools
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from lf.config import Evaluation, identity
from lf.config.schema import Names
from lf.core.errors import UserError, nearest
from lf.core.parsing import Strict, merge, parse
from lf.evaluate import protocol_for
from lf.runs import TrainingRun, find_training

LOWER = ("fd", "fid", "kid")  # prefixes of scores that are better when lower
HIGHER = ("precision", "recall", "inception_score", "class_accuracy", "agreement")

Point = dict[str, float | str]
"""``kind``, and ``scale``, ``begin``, ``end`` and ``shift`` of every stream, such as ``scale.pixels``."""


class Range(Strict):
    """``low``, ``low + step``, …, ``high``: discrete, so that equal points share one evaluation, also with sweeps."""

    low: float
    high: float
    step: float = Field(gt=0)

    @model_validator(mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        if isinstance(value, int | float):
            value = [value, value, 1]
        if not isinstance(value, Mapping) and (not isinstance(value, list | tuple) or len(value) != 3):
            raise ValueError(f"{value}: must be [low, high, step], or one number")
        return value if isinstance(value, Mapping) else dict(zip(("low", "high", "step"), value, strict=True))

    @model_validator(mode="after")
    def _whole(self) -> "Range":
        steps = (self.high - self.low) / self.step
        if steps < 0 or abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"{self}: must have a whole number of steps from low to high")
        return self

    def __str__(self) -> str:
        return f"[{self.low:g}, {self.high:g}, {self.step:g}]"

    def nearest(self, value: float) -> float:
        """The value of the range that is nearest to ``value``."""
        steps = round((min(max(value, self.low), self.high) - self.low) / self.step)
        return round(self.low + steps * self.step, 6)


NOTHING = {"scale": 1.0, "begin": 0.0, "end": 1.0, "shift": 1.0}  # values without effect
USUAL = {
    "scale": Range(low=1.0, high=4.0, step=0.1),
    "begin": Range(low=0.0, high=0.4, step=0.05),
    "end": Range(low=0.6, high=1.0, step=0.05),
    "shift": Range(low=0.25, high=2.0, step=0.05),
}
ByStream = Annotated[dict[str, Range], BeforeValidator(lambda v: v if isinstance(v, Mapping) else {"all": v})]


class Search(Strict):
    """The space and the settings of a search."""

    guide: str = Field("", description="autoguidance: the weaker network's training run, id or folder")
    kinds: tuple[Literal["cfg", "autoguidance", "cfg_then_autoguidance"], ...] = Field(
        (), description="kinds of guidance; by default cfg; with a guide, all"
    )
    scale: ByStream = Field({}, description="by stream, or for all: [low, high, step], or one fixed number")
    begin: ByStream = Field({}, description="where a stream's interval begins; begin=0 end=1: no intervals")
    end: ByStream = Field({}, description="where a stream's interval ends")
    shift: ByStream = Field({}, description="f_a (LF Eq. 4) of a latent's times on the path")
    points: tuple[Point, ...] = Field((), description="points to try first, such as [{scale.pixels: 1.5}]")
    grid: int = Field(3, ge=0, description="grid values per stream, for the scales, before the sampler chooses")
    objectives: Names = Field(("fd",), min_length=1, description="columns of a row; fd: of the first feature space")
    early: int = Field(
        0, ge=0, description="images after which a trial worse than the median stops; 0: no early stopping"
    )
    seed: int = Field(0, ge=0, description="seed of the sampler; the noise (evaluation.seed) is the same in all trials")
    storage: str = Field("", description="database, such as postgresql+psycopg://HOST/NAME; by default a journal file")
    evaluation: dict[str, Any] = Field({}, description="changes to the evaluation, such as evaluation.n=1000")

    @model_validator(mode="after")
    def _meant(self) -> "Search":
        for name in self.objectives:
            if not name.startswith(LOWER + HIGHER):
                raise ValueError(f"objectives={name}: no such score; {nearest(name, LOWER + HIGHER)}")
        if self.early and len(self.objectives) > 1:
            raise ValueError(f"early={self.early}: takes one objective, not {len(self.objectives)}")
        for name in ("guidance", "shift"):
            if name in self.evaluation:
                raise ValueError(f"evaluation.{name}: is set by the search and cannot be changed")
        return self

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """``minimize`` or ``maximize``, by objective."""
        return ["minimize" if name.startswith(LOWER) else "maximize" for name in self.objectives]


class Space:
    """The points of a search over one training, and their evaluations.

    Attributes:
        streams: names of the network's streams.
        kinds: kinds of guidance.
        ranges: the values of all other entries of a `Point`.

    Raises:
        UserError: an unknown stream, or settings that contradict each other.
    """

    def __init__(self, search: Search, trained: TrainingRun):
        self.search, self.trained = search, trained
        self.streams = trained.training.stream_names
        every = ("cfg", "autoguidance", "cfg_then_autoguidance")[: 3 if len(self.streams) > 1 else 2]
        self.kinds = search.kinds or (every if search.guide else every[:1])
        if not search.guide and self.kinds != every[:1]:
            raise UserError(f"kinds={list(self.kinds)}: autoguidance needs guide=, a weaker network's run")
        self.ranges = {f"{what}.{s}": self._range(what, s) for what in USUAL for s in self.streams}
        for s in self.streams:
            begin, end = self.ranges[f"begin.{s}"], self.ranges[f"end.{s}"]
            if not 0 <= begin.low <= begin.high < end.low <= end.high <= 1:
                raise UserError(f"begin.{s}={begin}, end.{s}={end}: needs 0 <= begin < end <= 1 for all values")
        n = self.evaluation(self.unguided).n
        if search.early == 1 or search.early >= n:
            raise UserError(f"early={search.early}: needs 0, or 2 images to {n - 1}")

    def _range(self, what: str, stream: str) -> Range:
        given = getattr(self.search, what)
        for name in given:
            if name not in (*self.streams, "all"):
                raise UserError(f"{what}.{name}: unknown stream; {nearest(name, self.streams)}")
        kept = Range(low=1, high=1, step=1)  # no shift of the pixels by default: only relative shifts matter
        usual = kept if what == "shift" and stream == "pixels" else given.get("all", USUAL[what])
        found: Range = given.get(stream, usual)
        if found.low < 0 or what == "shift" and found.low == 0:
            raise UserError(f"{what}.{stream}={found}: needs values {'>' if what == 'shift' else '>='} 0")
        return found

    @cached_property
    def id(self) -> str:
        """Identity of the search: a hash of the training, the evaluation and the space."""
        what = self.search.model_dump(mode="json", include={"points", "grid", "objectives", "early", "seed", "storage"})
        what |= {"kinds": self.kinds, "ranges": {name: str(values) for name, values in self.ranges.items()}}
        if self.search.guide:
            what["guide"] = find_training(self.search.guide, self.trained.training.runtime).id
        return identity(self.trained.id, what, self.evaluation(self.unguided).model_dump(mode="json"))

    @property
    def varied(self) -> dict[str, Range]:
        """The ranges with more than one value."""
        return {name: values for name, values in self.ranges.items() if values.low < values.high}

    @cached_property
    def unguided(self) -> Point:
        """The unguided point, or the nearest one in the space."""
        nothing = {name: values.nearest(NOTHING[name.partition(".")[0]]) for name, values in self.ranges.items()}
        return {"kind": self.kinds[0], **nothing}

    def first(self) -> list[Point]:
        """The points to try before the sampler chooses: unguided, ``points``, a coarse grid; without duplicates."""
        points = [self.unguided, *(self.unguided | self._checked(given) for given in self.search.points)]
        parts = [i / max(self.search.grid - 1, 1) for i in range(self.search.grid)]
        scales = [f"scale.{stream}" for stream in self.streams]
        values = [
            [r.nearest(r.low + part * (r.high - r.low)) for part in parts] for r in (self.ranges[s] for s in scales)
        ]
        for kind, some in itertools.product(self.kinds, itertools.product(*values)):
            points.append({**self.unguided, "kind": kind, **dict(zip(scales, some, strict=True))})
        distinct: dict[str, Point] = {}
        for point in points:
            distinct.setdefault(self.evaluation(point).model_dump_json(), point)
        return list(distinct.values())

    def _checked(self, point: Point) -> Point:
        for name, value in point.items():
            if name not in self.unguided:
                raise UserError(f"points: unknown '{name}'; {nearest(name, self.unguided)}")
            allowed = self.kinds if name == "kind" else self.ranges[name]
            inside = value in self.kinds if name == "kind" else value == self.ranges[name].nearest(float(value))
            if not inside:
                raise UserError(f"points: {name}={value} is not in the space; allowed: {allowed}")
        return point

    def evaluation(self, chosen: Point, n: int = 0) -> Evaluation:
        """The evaluation of a point, with only ``n`` images if given.

        Values without effect are left out, so that it has the same identity as in sweeps and other searches.
        """
        point = {name: value if isinstance(value, str) else round(value, 6) for name, value in chosen.items()}
        guided = [stream for stream in self.streams if point[f"scale.{stream}"] != 1]
        intervals = {stream: (point[f"begin.{stream}"], point[f"end.{stream}"]) for stream in guided}
        guidance = {
            "kind": point["kind"],
            "scale": {stream: point[f"scale.{stream}"] for stream in guided},
            "interval": {stream: ends for stream, ends in intervals.items() if ends != (0, 1)},
            "guide": self.search.guide if "autoguidance" in str(point["kind"]) else "",
        }
        base = merge(protocol_for(self.trained.training), self.search.evaluation)
        shift = {stream: a for stream in self.streams if (a := point[f"shift.{stream}"]) != 1}
        changes = {"guidance": guidance if guided else {}, "shift": shift} | ({"n": n} if n else {})
        return parse(Evaluation, base | changes, "evaluation")
