"""The cells of a question, and the settings of a launch, which give the configs of their trainings and evaluations."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from lf.config import Evaluation, Training
from lf.core.cli import help_of
from lf.core.errors import UserError
from lf.core.runtime import Runtime
from lf.runs import Run, TrainingRun, evaluation_run, training_run
from lf.runs.words import meant
from lf.storage.names import SHORT
from sweeps.presets import ABLATION, GUIDED, MODELS
from sweeps.recipe import Recipe

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
    if len(words) >= SHORT and any(run.id.startswith(words) for run in (cell.run, cell.trained)):
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


class Launch(Recipe):
    """The settings of a launch: what ``cells(launch)`` gets.

    Attributes:
        seeds, guide: as in the command; a question makes its trainings once for each of ``seeds``.
    """

    seeds: Seeds = Field((0,), min_length=1, description="1; 0,1,2; or 0-99 for a hundred")
    guide: str = Field("", description="run of a weaker network: AutoGuidance where the paper uses it; else CFG")
    from_: Literal["scratch", "trunk"] = Field(
        "scratch", alias="from", description="trunk: every order is trained from one network of all orders, not anew"
    )
    probe: float = Field(
        0.2, gt=0, le=1, description="from=trunk: steps of each such training, as a share of those from scratch"
    )

    @model_validator(mode="after")
    def _probe_of_trunk(self) -> Self:
        if "probe" in self.model_fields_set and self.from_ == "scratch":
            raise ValueError(f"probe={self.probe:g}: is for from=trunk")
        return self

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
