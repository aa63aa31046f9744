"""The space of a search for an order: families of schedules with their parameters, tried from one trunk."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import combinations
from math import log2
from typing import Any, Literal

from pydantic import Field, model_validator

from lf.config import Evaluation, Training, identity
from lf.core.errors import UserError, nearest
from lf.core.runtime import Runtime
from lf.evaluate import evaluate
from lf.runs import training_run
from lf.schedules import Schedule
from lf.train import train
from sweeps.presets import MODELS
from sweeps.recipe import Recipe
from sweeps.search.space import ByStream, Point, Range, Search, Space
from sweeps.specialise import specialised, trunk_of

MEANS = ("p_latent", "D_mean", "P_mean")  # what every family has
USUAL = {
    "beta": Range(low=0, high=0.5, step=0.25),
    "lead": Range(low=-4, high=8, step=1),
    "head": Range(low=-0.5, high=0.5, step=0.1),
    "time": Range(low=0, high=1, step=0.1),
}


class OrderSearch(Recipe, Search):
    """The settings of a search for an order."""

    trials: int = Field(12, ge=2, description="orders that are tried, each from the trunk")
    families: tuple[Literal["cascaded", "shifted", "offset", "points"], ...] = Field(
        ("cascaded", "shifted", "offset", "points"), min_length=1, description="schedules that are tried"
    )
    beta: Range = Field(USUAL["beta"], description="cascaded: noise left on finished streams, [low, high, step]")
    lead: ByStream = Field({}, description="shifted: log2 of a latent's alpha, by latent or for all")
    head: ByStream = Field({}, description="offset: head start of a latent over the pixels, by latent or for all")
    time: Range = Field(USUAL["time"], description="points: times of all streams at the points between 0 and 1")
    knots: int = Field(2, ge=1, le=4, description="points: number of points between 0 and 1")
    p_latent: Range | None = Field(None, description="share of samples that train a latent; by default the recipe's")
    D_mean: Range | None = Field(None, description="mean of the logit of a latent's time; by default the recipe's")
    P_mean: Range | None = Field(None, description="mean of the logit of the pixels' time; by default the recipe's")
    shares: tuple[float, ...] = Field(
        (0.05, 0.1, 0.2), min_length=1, description="lengths of the short trainings, of the preset's steps"
    )
    keep: float = Field(0.5, gt=0, lt=1, description="share of the orders that are trained on to the next length")
    end: float = Field(0.5, gt=0, description="length of the best order's training, of the preset's steps")

    @model_validator(mode="after")
    def _meant(self) -> "OrderSearch":
        lengths = [0.0, *self.shares, self.end]
        if any(a >= b for a, b in zip(lengths, lengths[1:], strict=False)):
            raise ValueError(f"shares={list(self.shares)}, end={self.end:g}: must be above 0 and grow")
        for key in ("schedule", "init", "seed"):
            if key in self.training:
                raise ValueError(f"training.{key}: is set by the search and cannot be changed")
        return self


class OrderSpace(Space):
    """The orders of a search, and their trainings from one trunk.

    Attributes:
        streams: names of the streams.
        kinds: every cascade, such as ``cascaded tiny, pixels``, then the other families.
        ranges: ``beta``; ``lead.tiny`` and ``head.tiny`` of every latent; ``time1.tiny``, … of every stream; means.

    Raises:
        UserError: there is only one stream, or a setting does not fit the streams.
    """

    WHAT = "order"

    def __init__(self, search: OrderSearch):
        self.search: OrderSearch = search
        lf = MODELS.get(search.preset, {}).get("lf", {"schedule": {"name": "cascaded"}})
        self.recipe = search.train(lf, seed=search.seed)
        self.streams = self.recipe.stream_names
        self.trunk = trunk_of(self.recipe, search)
        self.cascades = {f"cascaded {', '.join(map('+'.join, o))}": o for o in _cascades(self.streams)}
        families = [name for name in search.families if name != "cascaded"]
        self.kinds = (*(self.cascades if "cascaded" in search.families else ()), *families)
        latents = self.streams[1:]
        by_latent = {f"{what}.{s}": self._by_latent(what, s) for what in ("lead", "head") for s in latents}
        self.ranges = {"beta": search.beta} | by_latent
        for head in (self.ranges[f"head.{latent}"] for latent in latents):
            if not -1 < head.low <= head.high < 1:
                raise UserError(f"head={head}: needs values above -1 and below 1")
        for name, values in (("beta", search.beta), ("time", search.time), ("p_latent", search.p_latent)):
            if values and not 0 <= values.low <= values.high <= 1:
                raise UserError(f"{name}={values}: needs values from 0 to 1")
        knots = range(1, search.knots + 1)
        self.ranges |= {f"time{k}.{stream}": search.time for k in knots for stream in self.streams}
        self.ranges |= {name: values for name in MEANS if (values := getattr(search, name))}

    def _by_latent(self, what: str, latent: str) -> Range:
        given = getattr(self.search, what)
        for name in given:
            if name not in (*self.streams[1:], "all"):
                raise UserError(f"{what}.{name}: unknown latent; {nearest(name, self.streams[1:])}")
        found: Range = given.get(latent, given.get("all", USUAL[what]))
        return found

    @cached_property
    def id(self) -> str:
        what = self.search.model_dump(mode="json", include={"points", "objectives", "seed", "storage", "shares"})
        what |= {"kinds": self.kinds, "ranges": {name: str(values) for name, values in self.ranges.items()}}
        return identity(training_run(self.trunk).id, what, self.evaluation().model_dump(mode="json"))

    @cached_property
    def usual(self) -> Point:
        """The recipe's own cascade, or the first kind; and values in which the latents lead a little."""
        values = {"lead": log2(9), "head": 0.1, "beta": 0.25}
        found: Point = {"kind": self.kinds[0]}
        for name, some in self.ranges.items():
            what, _, stream = name.partition(".")
            if what.startswith("time"):
                part = int(what[4:]) / (self.search.knots + 1)
                value = part if stream != "pixels" else part / 2
            else:
                value = values[what] if what in values else float(getattr(self.recipe.schedule, what))
            found[name] = some.nearest(value)
        return found

    def first(self) -> list[Point]:
        """The cascades in which the pixels come last, the other families, all streams together; ``points``."""
        given = [self.usual | self.checked(point) for point in self.search.points]
        last = [kind for kind in self.kinds if self.cascades.get(kind, [[self.streams[0]]])[-1] == [self.streams[0]]]
        families = [self.usual, *({**self.usual, "kind": kind} for kind in last)]
        together: Point = {f"lead.{latent}": self.ranges[f"lead.{latent}"].nearest(0) for latent in self.streams[1:]}
        shifted: Point = {**self.usual, "kind": "shifted"}
        equal = [shifted | together] if "shifted" in self.kinds else []
        return self.distinct([*families, *equal, *given])

    def text(self, point: Point) -> str:
        return self.schedule(point).model_dump_json()

    def run(self, point: Point, n: int = 0) -> dict[str, Any]:
        training = self.training(point, self.search.shares[0])
        train(training)
        return evaluate(training_run(training), self.evaluation(**({"n": n} if n else {})))

    def training(self, point: Point, share: float, seed: int | None = None) -> Training:
        """The training of a point from the trunk, for a share of the preset's steps; by default with its seed."""
        changes = {"schedule": self.schedule(point), "seed": self.recipe.seed if seed is None else seed}
        return specialised(self.recipe.model_copy(update=changes), self.trunk, self.steps(share))

    def steps(self, share: float) -> int:
        """A share of the preset's steps."""
        return max(1, round(share * self.trunk.steps))

    def told(self, point: Point) -> str:
        """A point in words: its kind, and what has an effect on it."""
        kind = str(point["kind"])
        size = {"shifted": "lead", "offset": "head"}.get(kind, "")
        if kind == "points":
            said = " ".join(f"({' '.join(f'{t:g}' for t in row)})" for row in self._polyline(point)[1:-1])
        elif size:
            said = " ".join(f"{size} {latent} {point[f'{size}.{latent}']:g}" for latent in self.streams[1:])
        else:
            said = f"beta {point['beta']:g}"
        means = (f"{name} {point[name]:g}" for name in MEANS if name in self.varied)
        return " ".join([kind, said, *means]).strip()

    def evaluation(self, **changes: Any) -> Evaluation:
        """The evaluation of every training; all paths can be divided into its steps."""
        usual, more = self.search.evaluate(), 0
        steps = usual.steps
        while "steps" not in self.search.evaluation and more != steps:
            more, steps = steps, max(self.schedule({**self.usual, "kind": k}).steps_from(steps) for k in self.kinds)
        return self.search.evaluate(steps=steps, **changes)

    def schedule(self, chosen: Point) -> Schedule:
        """The schedule of a point. What has no effect on its kind is left out; 0.30000000000000004 is 0.3."""
        point: Point = {name: v if isinstance(v, str) else round(v, 6) for name, v in chosen.items()}
        kind, pixels = str(point["kind"]), self.streams[0]
        values: dict[str, Any] = self.recipe.schedule.model_dump(include={*MEANS, "D_std", "P_std"})
        values |= {name: point[name] for name in MEANS if name in point}
        size = {name: float(value) for name, value in point.items() if name != "kind"}
        if kind in self.cascades:
            values |= {"name": "cascaded", "order": self.cascades[kind], "beta": size["beta"]}
        elif kind == "shifted":
            leads = {pixels: 0.0} | {latent: size[f"lead.{latent}"] for latent in self.streams[1:]}
            middle = (max(leads.values()) + min(leads.values())) / 2  # as `alpha` divides a shift of two streams
            several = {"alpha": 1, "shift": {name: 2 ** (lead - middle) for name, lead in leads.items()}}
            one = {"alpha": 2 ** leads[self.streams[-1]]}
            values |= {"name": "shifted", **(one if len(leads) == 2 else several)}
        elif kind == "offset":
            heads = {pixels: 0.0} | {latent: size[f"head.{latent}"] for latent in self.streams[1:]}
            first = max(heads.values())
            several = {"offset": 0, "delay": {name: round(first - head, 6) for name, head in heads.items()}}
            values |= {"name": "offset", **({"offset": heads[self.streams[-1]]} if len(heads) == 2 else several)}
        else:
            values |= {"name": "points", "points": self._polyline(point)}
        return (
            self.recipe.model_copy().__class__.model_validate(self.recipe.model_dump() | {"schedule": values}).schedule
        )

    def _polyline(self, point: Point) -> list[list[float]]:
        """From 0 to 1 through the points' times, which are sorted for every stream; without repeated points."""
        knots = range(1, self.search.knots + 1)
        columns = [sorted(float(point[f"time{k}.{stream}"]) for k in knots) for stream in self.streams]
        rows = [[0.0] * len(columns), *map(list, zip(*columns, strict=True)), [1.0] * len(columns)]
        return [row for n, row in enumerate(rows) if n == 0 or row != rows[n - 1]]


def _cascades(streams: Sequence[str]) -> list[list[list[str]]]:
    """Every order of the streams, one after the other or in groups, but for one group of all; the usual one first."""

    def orders(left: tuple[str, ...]) -> Iterator[list[list[str]]]:
        if not left:
            yield []
        for size in range(1, len(left) + 1):
            for group in combinations(left, size):
                for rest in orders(tuple(name for name in left if name not in group)):
                    yield [list(group), *rest]

    latents_first = (*streams[1:], streams[0])
    return [order for order in orders(latents_first) if len(order) > 1]


def order_space(search: OrderSearch, runtime: Runtime) -> OrderSpace:
    """The space, with trainings of another runtime."""
    return OrderSpace(search.on(runtime))
