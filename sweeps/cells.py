"""The cells of a question, and the settings of a launch, which give the configs of their trainings and evaluations."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from lf.config import Evaluation, Training, preset
from lf.core.cli import help_of
from lf.core.errors import UserError
from lf.core.parsing import Strict, merge, parse
from lf.core.runtime import Runtime
from lf.encoders import Encoder
from lf.runs import Run, TrainingRun, evaluation_run, training_run
from lf.runs.words import meant
from sweeps.jobs.profile import Cluster
from sweeps.presets import ABLATION, GUIDED, MODELS, SMOKE

ID = 6  # fewest characters of an identity that stand for it
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Cell:
    """One evaluation of one training: one line of a question's table.

    Attributes:
        labels: where it stands in the table, by name: words, numbers or None, as ``{"latent": "tiny", "alpha": 4}``. No
            two cells of a question have the same. A number becomes an axis of the figures, words become rows. Without
            ``seed``, the seed of the training is added.
        training: from `Launch.train` or `Launch.model`; cells with equal trainings share one.
        evaluation: from `Launch.evaluate`.
        after: a training that must be done before this one begins: the one that its ``init`` names, or a shorter one
            that it continues.
    """

    labels: Mapping[str, Any]
    training: Training
    evaluation: Evaluation
    after: Training | None = None

    @property
    def all_labels(self) -> dict[str, Any]:
        """Its labels, and the seed of its training if they do not name one: tables compare over seeds."""
        return {**self.labels, "seed": self.labels.get("seed", self.training.seed)}

    @property
    def title(self) -> str:
        """Its labels as a title."""
        return titled(self.labels)

    @cached_property
    def trained(self) -> TrainingRun:
        """The run of its training."""
        return training_run(self.training)

    @cached_property
    def run(self) -> Run:
        """The run of its evaluation."""
        return evaluation_run(self.trained, self.evaluation)


def titled(labels: Mapping[str, Any]) -> str:
    """Labels as a title: ``independent tiny shifted alpha 4 seed 0``."""
    named = (
        f"{k} {v:g}" if isinstance(v, float) else f"seed {v}" if k == "seed" else str(v) for k, v in labels.items()
    )
    return " ".join(named)


def matches(cell: Cell, words: str) -> bool:
    """Whether a cell is meant by ``words``: parts of its title or of its labels (`lf.runs.words.meant`).

    An identity of its training or evaluation, or the first characters of one, is also understood.
    """
    if len(words) >= ID and any(run.id.startswith(words) for run in (cell.run, cell.trained)):
        return True
    return meant(words, [cell.title, " ".join(f"{name} {value}" for name, value in cell.labels.items())])


def _seeds(value: Any) -> Any:
    """``1``, ``0,1``, ``0-9``, ``0-4,8`` and lists of these, as seeds without duplicates."""
    parts = value if isinstance(value, (list, tuple)) else str(value).split(",")
    seeds: dict[Any, None] = {}
    for part in parts:
        found = re.fullmatch(r"(\d+)-(\d+)", str(part).strip())
        first, last = map(int, found.groups()) if found else (0, 0)
        if found and last < first:
            raise ValueError(f"seeds={part}: must be ascending, such as {last}-{first}")
        if last - first >= MOST_SEEDS:
            raise ValueError(f"seeds={part}: are {last - first + 1:,}; at most {MOST_SEEDS:,} are allowed")
        seeds |= dict.fromkeys(range(first, last + 1) if found else [_seed(part)])
    if len(seeds) > MOST_SEEDS:
        raise ValueError(f"seeds: are {len(seeds):,}; at most {MOST_SEEDS:,} are allowed")
    return tuple(seeds)


def _seed(value: Any) -> Any:
    text = str(value).strip()
    return int(text) if re.fullmatch(r"\d+", text) else value


Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_seeds)]


class Launch(Strict):
    """The settings of a launch: what ``cells(launch)`` gets.

    Attributes:
        preset, seeds, guide: as in the command; a question makes its trainings once for each of ``seeds``.
        training, evaluation: the command's changes to the preset.
    """

    preset: str = Field("shapes", description="what the question builds on: shapes, imagenet256 or a file")
    seeds: Seeds = Field((0,), min_length=1, description="1; 0,1,2; or 0-99 for a hundred")
    training: dict[str, Any] = Field({}, description="changes to the preset's training; the prefix may be omitted")
    evaluation: dict[str, Any] = Field({}, description="changes to the preset's evaluation")
    guide: str = Field("", description="run of a weaker network: AutoGuidance where the paper uses it; else CFG")
    from_: Literal["scratch", "trunk"] = Field(
        "scratch", alias="from", description="trunk: every order is trained from one network of all orders, not anew"
    )
    probe: float = Field(
        0.2, gt=0, le=1, description="from=trunk: steps of each such training, as a share of those from scratch"
    )
    executor: Literal["auto", "local", "slurm"] = Field("auto", description="auto: SLURM if available, else local")
    workers: int = Field(
        0, ge=0, description="jobs at a time on this machine; 0: one per core, or one if there is a GPU"
    )
    cluster: dict[str, Any] = Field({}, description="overrides of cluster.toml, such as cluster.train.nodes=2")
    budget: Literal["normal", "smoke"] = Field(
        "normal", description="smoke: a few steps and images, to check that it runs"
    )
    budget_hours: float = Field(
        0, ge=0, description="refuse a sweep whose forecast exceeds this many worker hours; 0: no limit"
    )
    runtime: Runtime = Runtime()

    @model_validator(mode="after")
    def _probe_of_trunk(self) -> Self:
        if "probe" in self.model_fields_set and self.from_ == "scratch":
            raise ValueError(f"probe={self.probe:g}: is for from=trunk")
        return self

    @cached_property
    def resolved(self) -> Runtime:
        """The preset's runtime, overridden by the given one."""
        given = self.runtime.model_dump(include=self.runtime.model_fields_set)
        given = ({"compile": False} if self.budget == "smoke" else {}) | given
        return parse(Runtime, merge(preset(self.preset)["training"].get("runtime", {}), given), "runtime")

    def train(self, called: Mapping[str, Any] | None = None, /, **fixed: Any) -> Training:
        """The preset's training, overridden by ``called``, then by the command's words, then by the ``fixed`` values.

        Args:
            called: keys of the training that the question sets and the command may change, as ``{"steps": 2000}``.
            fixed: keys of the training that are the question: ``latents``, ``schedule``, ``seed``, …
                (`lf.config.Training`, or ``python -m lf.train --help``), nested as in a preset:
                ``network={"depth": 6}``. A plugin is its name, ``{"name": …, parameters}``, or an object of its class.

        Raises:
            UserError: the launch and ``fixed`` set one key to different values, or a value is not valid.
        """
        if clash := next(_clashes(self.training, fixed), ""):
            raise UserError(f"{clash}: is set by the sweep and cannot be changed")
        values = merge(merge(merge(self._base("training"), called or {}), self.training), fixed)
        training = parse(Training, values | {"runtime": self.resolved}, "training")
        if self.budget == "smoke":  # encoders that are trained first are trained for as few steps
            latents = tuple(_quick(encoder, training.steps) for encoder in training.latents)
            repa = training.repa and _quick(training.repa, training.steps)
            training = training.model_copy(update={"latents": latents, "repa": repa})
        return training

    def model(self, name: Literal["jit", "repa", "lf"], times: float | None = None, **fixed: Any) -> Training:
        """The training of JiT, JiT+REPA or LF at this preset (`sweeps.presets.MODELS`).

        Args:
            name: which of the three.
            times: number of steps, relative to the preset's; by default an ablation's (`sweeps.presets.ABLATION`). In a
                shorter training, warm-up and weight averages span the same share of it.
            fixed: as in `train`.

        Raises:
            UserError: as in `train`, or the preset has no such models.
        """
        if self.preset not in MODELS:
            raise UserError(f"preset={self.preset}: this question supports these presets: {', '.join(MODELS)}")
        training = self.train(MODELS[self.preset][name], **fixed)
        times = ABLATION[self.preset] if times is None else times
        changes: dict[str, Any] = {"steps": round(times * training.steps)}
        if times < 1:
            ema = tuple(round(decay ** (1 / times), 6) for decay in training.ema)
            changes |= {"warmup": round(times * training.warmup), "ema": ema}
        return training.model_copy(update=changes)

    def scored(self, labels: Mapping[str, Any], training: Training, **fixed: Any) -> Iterator[Cell]:
        """The cells of a training: unguided and, if labels or a guide make a difference, guided (`GUIDED`).

        Args:
            labels: those of both cells; ``guidance`` and ``seed`` are added.
            training: from `train` or `model`.
            fixed: as in `evaluate`, but for ``guidance``.
        """
        names, known = training.stream_names, GUIDED[self.preset]
        how = known.get(" ".join(names), known[""])
        if how["kind"] == "autoguidance":
            how = how | {"guide": self.guide} if self.guide else known[""]
        how = how | {key: dict.fromkeys(names, how[key]) for key in how.keys() & {"scale", "interval"}}
        for guidance in ({"kind": "none"}, how):
            if guidance["kind"] == "cfg" and training.label_dropout == 1:
                continue  # without labels, both passes of CFG are equal
            evaluation = self.evaluate(guidance=guidance, **fixed)
            yield Cell({**labels, "guidance": guidance["kind"], "seed": training.seed}, training, evaluation)

    def explained(self) -> list[str]:
        """Its keys with their values, and those of its trainings, as lines for ``--help``."""
        return [
            *help_of(Launch, dict(self), without=("training", "runtime")),
            *help_of(Training, dict(self.train()), without=("seed", "runtime")),
            *help_of(Runtime, dict(self.resolved), "runtime."),
        ]

    def placed(self, profile: Cluster) -> "Launch":
        """The same launch, with the run store and the data sets of a cluster's profile."""
        changes: dict[str, Any] = {"runtime": profile.placed(self.runtime)}
        if self.training.get("data") in profile.data:
            changes["training"] = {**self.training, "data": profile.data[self.training["data"]]}
        return self.model_copy(update=changes)

    def evaluate(self, **fixed: Any) -> Evaluation:
        """The preset's evaluation, overridden by the command's words ``evaluation.…`` and by the ``fixed`` values.

        Args:
            fixed: keys of the evaluation: ``path``, ``steps``, ``n``, ``guidance``, ``given``, …
                (`lf.config.Evaluation`, or ``python -m lf.evaluate --help``). All cells of a question must have the
                same ``n``, ``steps`` and ``features``, or they cannot stand in one table.

        Raises:
            UserError: a value is not valid.
        """
        values = merge(merge(self._base("evaluation"), self.evaluation), fixed)
        return parse(Evaluation, values, "evaluation")

    def _base(self, part: Literal["training", "evaluation"]) -> dict[str, Any]:
        return merge(preset(self.preset)[part], SMOKE[part] if self.budget == "smoke" else {})


def _quick(encoder: Encoder, steps: int) -> Encoder:
    """The encoder with its training, and that of an encoder it is aligned to, limited to ``steps`` steps."""
    aligned = getattr(encoder, "align", None)
    changes: dict[str, Any] = {"align": _quick(aligned, steps)} if aligned else {}
    return encoder.model_copy(update=changes | ({"steps": steps} if "steps" in type(encoder).model_fields else {}))


def _clashes(given: Mapping[str, Any], fixed: Mapping[str, Any]) -> Iterator[str]:
    """Keys that both set to different values."""
    for key in given.keys() & fixed.keys():
        if isinstance(given[key], Mapping) and isinstance(fixed[key], Mapping):
            yield from (f"{key}.{below}" for below in _clashes(given[key], fixed[key]))
        elif given[key] != fixed[key]:
            yield key
