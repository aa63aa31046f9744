"""What a launch builds on: a preset, the command's changes to it, and where it runs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Self, TypeVar

import torch
from pydantic import Field

from lf.config import Evaluation, Training, preset
from lf.core.errors import UserError, nearest
from lf.core.parsing import Strict, merge, overrides, parse
from lf.core.runtime import Runtime
from lf.encoders import Encoder
from sweeps.jobs.profile import Cluster
from sweeps.presets import SMOKE


class Recipe(Strict):
    """A preset and the command's changes to it, which give the configs of trainings and evaluations.

    Attributes:
        training, evaluation: the command's changes to the preset.
    """

    preset: str = Field("shapes", description="what the question builds on: shapes, imagenet256 or a file")
    training: dict[str, Any] = Field({}, description="changes to the preset's training; the prefix may be omitted")
    evaluation: dict[str, Any] = Field({}, description="changes to the preset's evaluation")
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

    def on(self, runtime: Runtime) -> Self:
        """The same with another runtime."""
        found = self.model_copy(update={"runtime": runtime})
        found.__dict__.pop("resolved", None)
        return found

    def placed(self, profile: Cluster) -> Self:
        """The same launch, with the run store and the data sets of a cluster's profile."""
        found, data = self.on(profile.placed(self.runtime)), self.training.get("data")
        if data not in profile.data:
            return found
        return found.model_copy(update={"training": {**self.training, "data": profile.data[data]}})


R = TypeVar("R", bound=Recipe)


def recipe_of(kind: type[R], words: Sequence[str], where: str) -> R:
    """The settings of ``key=value`` words; training keys need no prefix. Raises `UserError` at an unknown key."""
    given = overrides(words)
    own = {field.alias or key for key, field in kind.model_fields.items()}
    known = {*own, *Training.model_fields}
    for key in given:
        if key not in known:
            raise UserError(f"{key}: unknown key; {nearest(key, known)}")
    bare = {key: given.pop(key) for key in list(given) if key not in own and key != "seed"}
    given["training"] = merge(given.get("training", {}), bare)
    asked = parse(kind, given, where)
    preset(asked.preset)  # an unknown preset fails here
    return asked


def workers_of(asked: Recipe) -> int:
    """Number of jobs at a time on this machine."""
    return asked.workers or (1 if torch.cuda.is_available() else os.cpu_count() or 1)


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
