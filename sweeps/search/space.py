"""What every search has: settings, typed ranges, and a space of points that are tried one by one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from lf.config.schema import Names
from lf.core.errors import UserError, nearest
from lf.core.parsing import Strict

LOWER = ("fd", "fid", "kid")  # prefixes of scores that are better when lower
HIGHER = ("precision", "recall", "inception_score", "class_accuracy", "agreement")

Point = dict[str, float | str]
"""``kind``, and a value of every range, such as ``scale.pixels``."""


class Range(Strict):
    """``low``, ``low + step``, …, ``high``: discrete, so that equal points share one run, also with sweeps."""

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


ByStream = Annotated[dict[str, Range], BeforeValidator(lambda v: v if isinstance(v, Mapping) else {"all": v})]


class Search(Strict):
    """The settings that every search has."""

    points: tuple[Point, ...] = Field((), description="points to try first, such as [{scale.pixels: 1.5}]")
    objectives: Names = Field(("fd",), min_length=1, description="columns of a row; fd: of the first feature space")
    seed: int = Field(0, ge=0, description="seed of the sampler; the noise (evaluation.seed) is the same in all trials")
    storage: str = Field("", description="database, such as postgresql+psycopg://HOST/NAME; by default a journal file")
    evaluation: dict[str, Any] = Field({}, description="changes to the evaluation, such as evaluation.n=1000")

    @model_validator(mode="after")
    def _known(self) -> "Search":
        for name in self.objectives:
            if not name.startswith(LOWER + HIGHER):
                raise ValueError(f"objectives={name}: no such score; {nearest(name, LOWER + HIGHER)}")
        return self

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """``minimize`` or ``maximize``, by objective."""
        return ["minimize" if name.startswith(LOWER) else "maximize" for name in self.objectives]


class Space(ABC):
    """The points of a search, and what is run for each.

    Attributes:
        WHAT: start of the name of such a search.
        search: its settings.
        kinds: values of the entry ``kind`` of a `Point`.
        ranges: the values of all its other entries.
        early: images after which a trial worse than the median stops; 0: none does.
    """

    WHAT: ClassVar[str]
    search: Search
    kinds: tuple[str, ...]
    ranges: dict[str, Range]
    early: int = 0

    @property
    @abstractmethod
    def id(self) -> str:
        """Identity of the search: a hash of all that determines its trials."""

    @property
    @abstractmethod
    def usual(self) -> Point:
        """The point whose values the others take where they have none of their own."""

    @abstractmethod
    def first(self) -> list[Point]:
        """The points to try before the sampler chooses, without duplicates."""

    @abstractmethod
    def text(self, point: Point) -> str:
        """What is run for a point; equal points of the space, and only these, have equal texts."""

    @abstractmethod
    def run(self, point: Point, n: int = 0) -> dict[str, Any]:
        """Runs a point, scored with ``n`` images if given, and returns the row of its evaluation."""

    @property
    def name(self) -> str:
        """Its name as a sweep: ``guidance-ID``."""
        return f"{self.WHAT}-{self.id}"

    @cached_property
    def varied(self) -> dict[str, Range]:
        """The ranges with more than one value."""
        return {name: values for name, values in self.ranges.items() if values.low < values.high}

    def distinct(self, points: list[Point]) -> list[Point]:
        """The points without those that run what an earlier one runs."""
        found: dict[str, Point] = {}
        for point in points:
            found.setdefault(self.text(point), point)
        return list(found.values())

    def checked(self, point: Point) -> Point:
        """A point that a user gave. Raises `UserError` if it is not in the space."""
        for name, value in point.items():
            if name not in self.usual:
                raise UserError(f"points: unknown '{name}'; {nearest(name, self.usual)}")
            allowed = self.kinds if name == "kind" else self.ranges[name]
            inside = value in self.kinds if name == "kind" else value == self.ranges[name].nearest(float(value))
            if not inside:
                raise UserError(f"points: {name}={value} is not in the space; allowed: {allowed}")
        return point

    def place(self, runs: Path) -> Path:
        """Its folder in the run store."""
        return runs / "sweeps" / self.name
