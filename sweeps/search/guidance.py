"""The space of a guidance search: its typed description, and the evaluation of each point."""

import itertools
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from lf.config import Evaluation, identity
from lf.core.errors import UserError, nearest
from lf.core.parsing import merge, overrides, parse
from lf.core.runtime import Runtime
from lf.evaluate import evaluate, protocol_for
from lf.runs import TrainingRun, find_training
from sweeps.jobs import profile as clusters
from sweeps.jobs.monitor import on_slurm, share_cores
from sweeps.search.space import ByStream, Point, Range, Search, Space
from sweeps.search.trials import Trials
from sweeps.search.workers import manifest_of, run_trials

NOTHING = {"scale": 1.0, "begin": 0.0, "end": 1.0, "shift": 1.0}  # values without effect
USUAL = {
    "scale": Range(low=1.0, high=4.0, step=0.1),
    "begin": Range(low=0.0, high=0.4, step=0.05),
    "end": Range(low=0.6, high=1.0, step=0.05),
    "shift": Range(low=0.25, high=2.0, step=0.05),
}


class GuidanceSearch(Search):
    """The settings of a guidance search that determine its trials."""

    guide: str = Field("", description="autoguidance: the weaker network's training run, id or folder")
    kinds: tuple[Literal["cfg", "autoguidance", "cfg_then_autoguidance"], ...] = Field(
        (), description="kinds of guidance; by default cfg; with a guide, all"
    )
    scale: ByStream = Field({}, description="by stream, or for all: [low, high, step], or one fixed number")
    begin: ByStream = Field({}, description="where a stream's interval begins; begin=0 end=1: no intervals")
    end: ByStream = Field({}, description="where a stream's interval ends")
    shift: ByStream = Field({}, description="f_a (LF Eq. 4) of a latent's times on the path")
    grid: int = Field(3, ge=0, description="grid values per stream, for the scales, before the sampler chooses")
    early: int = Field(
        0, ge=0, description="images after which a trial worse than the median stops; 0: no early stopping"
    )

    @model_validator(mode="after")
    def _meant(self) -> "GuidanceSearch":
        if self.early and len(self.objectives) > 1:
            raise ValueError(f"early={self.early}: takes one objective, not {len(self.objectives)}")
        for name in ("guidance", "shift"):
            if name in self.evaluation:
                raise ValueError(f"evaluation.{name}: is set by the search and cannot be changed")
        return self


class GuidanceSpace(Space):
    """The points of a search over one training, and their evaluations.

    Attributes:
        streams: names of the network's streams.
        kinds: kinds of guidance.
        ranges: ``scale``, ``begin``, ``end`` and ``shift`` of every stream, such as ``scale.pixels``.

    Raises:
        UserError: an unknown stream, or settings that contradict each other.
    """

    WHAT = "guidance"

    def __init__(self, search: GuidanceSearch, trained: TrainingRun):
        self.search: GuidanceSearch = search
        self.trained, self.early = trained, search.early
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
        n = self.evaluation(self.usual).n
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
        return identity(self.trained.id, what, self.evaluation(self.usual).model_dump(mode="json"))

    @cached_property
    def usual(self) -> Point:
        """The unguided point, or the nearest one in the space."""
        nothing = {name: values.nearest(NOTHING[name.partition(".")[0]]) for name, values in self.ranges.items()}
        return {"kind": self.kinds[0], **nothing}

    def first(self) -> list[Point]:
        """Unguided, ``points``, a coarse grid over the scales."""
        points = [self.usual, *(self.usual | self.checked(given) for given in self.search.points)]
        parts = [i / max(self.search.grid - 1, 1) for i in range(self.search.grid)]
        scales = [f"scale.{stream}" for stream in self.streams]
        values = [
            [r.nearest(r.low + part * (r.high - r.low)) for part in parts] for r in (self.ranges[s] for s in scales)
        ]
        for kind, some in itertools.product(self.kinds, itertools.product(*values)):
            points.append({**self.usual, "kind": kind, **dict(zip(scales, some, strict=True))})
        return self.distinct(points)

    def text(self, point: Point) -> str:
        return self.evaluation(point).model_dump_json()

    def run(self, point: Point, n: int = 0) -> dict[str, Any]:
        return evaluate(self.trained, self.evaluation(point, n))

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


def guidance_space(search: GuidanceSearch, folder: str, images: str, runtime: Runtime) -> GuidanceSpace:
    """The space over the training in ``folder``, whose images are now at ``images``."""
    return GuidanceSpace(search, find_training(folder, runtime, images))


class SearchLaunch(GuidanceSearch):
    """The settings of a search's launch."""

    trials: int = Field(50, ge=1, description="number of trials")
    workers: int = Field(1, ge=1, description="processes that evaluate; on SLURM each is a job")
    executor: Literal["auto", "local", "slurm"] = "auto"
    cluster: dict[str, Any] = Field({}, description="overrides of cluster.toml")
    data: str = Field("", description="where the training's images are now; by default where they were")
    runtime: Runtime = Runtime()


def settings(words: Sequence[str]) -> SearchLaunch:
    """The search settings of ``key=value`` words."""
    given = overrides(words)
    for key in given:
        if key not in SearchLaunch.model_fields:
            raise UserError(f"{key}: unknown key; {nearest(key, SearchLaunch.model_fields)}")
    return parse(SearchLaunch, given, "guidance")


def search(run: str, words: Sequence[str], question: str = "") -> Trials[GuidanceSpace]:
    """Runs a search's workers until all of its trials have ended; returns the trials.

    Args:
        run: training run: id or folder.
        words: ``key=value`` as on the command line, such as ``["trials=20", "scale.pixels=[1,3,0.25]"]``.
        question: text for the manifest and the report.

    Raises:
        UserError: an unknown run or key, or a space that does not fit the run.
        SystemExit: every worker stopped before all trials had ended.
    """
    asked = settings(words)
    slurm = on_slurm(asked.executor)
    profile, _ = clusters.load(asked.cluster)
    runtime = profile.placed(asked.runtime)
    runs = Path(runtime.runs).absolute()
    runtime = runtime.model_copy(update={"runs": str(runs)})
    trained = find_training(run, runtime if slurm else share_cores(runtime, asked.workers), asked.data)
    what = GuidanceSearch.model_validate(asked.model_dump(include=set(GuidanceSearch.model_fields)))
    space = partial(guidance_space, what, str(trained.folder.absolute()), asked.data)
    trials = Trials(space(trained.training.runtime), runs)
    run_trials(
        trials, space, trained.training, asked.trials, asked.workers, profile, manifest_of(trials, words, question),
        slurm=slurm,
    )  # fmt: skip
    return trials
