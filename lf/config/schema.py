"""The typed configs. An unknown key or a bad value is a one-line error that names it and what is allowed."""

import hashlib
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lf import data, schedules
from lf.config.init import Init, Weights
from lf.core.errors import UserError, nearest
from lf.core.parsing import Strict, optional, parse
from lf.core.plugins import by_name
from lf.core.runtime import Runtime
from lf.diffusion.flow import shift
from lf.diffusion.guidance import Guidance
from lf.diffusion.streams import Stream
from lf.encoders import AnyEncoder, Encoder
from lf.network import NetworkConfig
from lf.schedules import Schedule

DEFAULTS = "evaluation.yaml"  # in a run's folder: how `lf.convert` found its images to be drawn
PROVENANCE = ("data_digest", "contents", "source", "weights_sha256")  # in config.json beside the training config

AnySchedule = Annotated[SerializeAsAny[Schedule], by_name(schedules.create)]
DType = Literal["float32", "bfloat16"]
Decays = Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], BeforeValidator(lambda v: _listed(v, int | float))]
Names = Annotated[tuple[str, ...], BeforeValidator(lambda v: _listed(v, str))]
Given = Annotated[dict[str, Annotated[float, Field(gt=0, le=1)]], BeforeValidator(lambda v: _at_one(_listed(v, str)))]


def _named(value: str) -> str:
    if (found := data.named(value)) != value:
        _say(f"data={value}: taken for data={found}")
    return found


@cache
def _say(message: str) -> None:
    """Prints a message, once per process."""
    print(message, file=sys.stderr)


DataName = Annotated[str, AfterValidator(_named)]


def _listed(value: Any, single: Any) -> Any:
    return (value,) if isinstance(value, single) else value


def _at_one(value: Any) -> Any:
    if isinstance(value, tuple | list) and all(isinstance(name, str) for name in value):
        return {name: 1.0 for name in value}
    if not isinstance(value, Mapping):
        raise ValueError(f"given={value}: must be names of streams, such as [tiny], or times by name, given.tiny=0.8")
    return value


class Source(Strict):
    """The data set, and the runtime."""

    data: DataName = Field("shapes", description="shapes, digits, folder:PATH or shards:PATH (lf.data.prepare)")
    resolution: int = Field(32, ge=8, description="height and width of the images, in pixels")
    runtime: Runtime = Runtime()


class Training(Source):
    """A training run: all fields but ``runtime``, with the data's digest, are its identity."""

    flip: bool = Field(False, description="mirror half of the images, left to right")
    noise_scale: float = Field(1.0, gt=0, description="standard deviation of every stream's noise; JiT: 2 at 512 px")
    latents: tuple[AnyEncoder, ...] = Field(
        (), description="encoders of the latent streams, such as tiny or dinov2; none: JiT. With --help: its keys"
    )
    network: NetworkConfig = NetworkConfig()
    schedule: AnySchedule = Field(
        default_factory=lambda: schedules.create("pixel_only"),
        description="order of the streams, such as cascaded or independent. With --help: its keys",
    )
    init: Init = optional(Init())
    steps: int = Field(ge=1, description="training steps")
    batch: int = Field(ge=1, description="images per step, over all processes")
    lr: float = Field(gt=0, description="learning rate of AdamW after warm-up")
    lr_schedule: Literal["constant", "cosine", "linear"] = Field(
        "constant", description="learning rate after warm-up; cosine and linear fall to 0"
    )
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    ema: Decays = Field((0.9999, 0.9998), min_length=1, description="decay of each average of the weights")
    clip: float = Field(0.0, ge=0, description="largest norm of the gradient; 0: no clipping")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of AdamW")
    label_dropout: float = Field(0.1, ge=0, le=1, description="share of labels dropped, for CFG; 1: no labels")
    repa: AnyEncoder | None = Field(None, description="encoder that network.repa_block is aligned to (REPA)")
    repa_weight: float = Field(0.5, gt=0, description="λ of the alignment loss 1 - cos")
    dtype: DType = Field("bfloat16", description="number format of matrix products (autocast)")
    seed: int = Field(0, ge=0, description="seed of weights, data order, noise and times")

    @model_validator(mode="before")
    @classmethod
    def _one_latent(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("latents"), str | Mapping):
            values = values | {"latents": [values["latents"]]}
        return values

    @model_validator(mode="after")
    def _fits(self) -> "Training":
        if self.resolution % self.network.patch:
            raise ValueError(f"resolution={self.resolution}: must be a multiple of network.patch={self.network.patch}")
        if (self.repa is None) != (self.network.repa_block is None):
            raise ValueError("repa and network.repa_block go together: give both or neither")
        if self.repa and self.network.repa_width != self.repa.channels(self.network.patch):
            raise ValueError(
                f"network.repa_width={self.network.repa_width}: must equal the channels of {self.repa.name}, "
                f"{self.repa.channels(self.network.patch)}"
            )
        if self.repa and self.repa.cell(self.network.patch) != self.network.patch:
            raise ValueError(f"repa={self.repa.name}: has more than one vector a token and cannot be aligned to")
        object.__setattr__(self, "schedule", self.schedule.over(self.stream_names))
        return self

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """The encoders of the latents, then REPA's."""
        return (*self.latents, *([self.repa] if self.repa else []))

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams: pixels, then the latents."""
        patch = self.network.patch
        latents = [encoder.stream(self.resolution, patch) for encoder in self.latents]
        names = stream_names(stream.name for stream in latents)
        named = (replace(stream, name=name) for stream, name in zip(latents, names[1:], strict=True))
        return (Stream(names[0], 3, self.resolution, patch), *named)

    @property
    def stream_names(self) -> list[str]:
        """The names of the streams."""
        return [stream.name for stream in self.streams]

    def lr_at(self, step: int) -> float:
        """Learning rate of ``step``, counted from 0: linear warm-up, then constant, cosine or linear (to 0)."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        falling = {"constant": 1.0, "cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done}
        return self.lr * falling[self.lr_schedule]


def stream_names(latents: Iterable[str]) -> list[str]:
    """Distinct names of the streams: a latent called ``pixels`` becomes ``pixels_latent``, the second ``x`` ``x_2``."""
    names, seen = ["pixels"], Counter[str]()
    for latent in latents:
        name = "pixels_latent" if latent == "pixels" else latent
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return names


class Sampling(Strict):
    """How images are sampled from a trained network."""

    path: AnySchedule | None = Field(None, description="schedule whose path is followed; the training's by default")
    steps: int = Field(50, ge=1, description="solver steps")
    shift: dict[str, float] = Field({}, description="f_a (LF Eq. 4) of a stream's times on the path, by stream name")
    solver: Literal["heun", "heun_per_stream", "euler"] = Field(
        "heun", description="the last step is one of Euler: of the path, or with heun_per_stream of each stream"
    )
    t_clip: float = Field(0.05, gt=0, le=1, description="lower bound of 1-t in the velocity")
    latent_noise: float = Field(0.0, ge=0, lt=1, description="share of fresh noise in finished latents (LF Table 7)")
    given: Given = optional(
        {}, description="streams taken from held-out images: [tiny], or their times, given.tiny=0.8"
    )
    given_data: DataName = optional(
        "", description="data set of these images; by default what the training's data holds out"
    )
    guidance: Guidance = Guidance()
    weights: Weights = Field("ema", description="ema, ema2, … or raw")
    dtype: DType = Field("float32", description="number format of matrix products (autocast)")
    seed: int = Field(0, ge=0, description="seed of the images' noise")

    @model_validator(mode="after")
    def _needed(self) -> Self:
        if self.given_data and not self.given:
            raise ValueError(f"given_data={self.given_data}: needs given, the streams that are taken from it")
        return self

    def fitted(self, training: Training) -> Self:
        """The same settings, with the next number of steps that the path can be divided into."""
        path = training.schedule if self.path is None else self.path.over(training.stream_names)
        return self.model_copy(update={"steps": path.steps_from(self.steps)})

    def path_for(self, training: Training) -> torch.Tensor:
        """Time vectors of the path, ``(steps+1, streams)``; without the steps in which only given streams would move.

        Raises:
            UserError: schedule and steps do not fit, a name is no stream's, or no stream is left to generate.
        """
        names = training.stream_names
        self.guidance.check(names)
        for name, a in self.shift.items():
            if name not in names or a <= 0:
                raise UserError(
                    f"shift.{name}={a}: needs the name of a stream, {nearest(name, names)}, and a value > 0"
                )
        for name in self.given:
            if name not in names:
                raise UserError(f"given.{name}: no such stream; {nearest(name, names)}")
        if self.given and not self.given_data and training.data.partition(":")[0] in ("", "shards"):
            raise UserError(
                f"given=[{', '.join(self.given)}]: data={training.data} holds out no images; give "
                "given_data=shards:PATH or given_data=folder:PATH of images that the training did not see"
            )
        schedule = training.schedule if self.path is None else self.path.over(names)
        path = schedule.path(self.steps)
        path = torch.stack([shift(t, self.shift.get(name, 1.0)) for name, t in zip(names, path.T, strict=True)], 1)
        if self.given:
            for i, name in enumerate(names):
                path[:, i] = self.given.get(name, path[:, i])
            path = torch.cat([path[:1], path[1:][(path.diff(dim=0) != 0).any(1)]])
            if len(path) == 1:
                raise UserError(
                    f"given=[{', '.join(self.given)}]: no stream is left to generate along the path {schedule.name} of "
                    f"{', '.join(names)}"
                )
        return path


class ScoringConfig(Strict):
    """The number of images that are scored, the feature spaces, and the references."""

    n: int = Field(50_000, ge=2, description="number of images")
    features: Names = Field(("judge",), min_length=1, description="feature spaces: judge, inception-v3-compat, a CLIP")
    reference: dict[str, str] = Field(
        {}, description="reference statistics: one .npz per feature space; by default those of the data"
    )

    @field_validator("reference", mode="before")
    @classmethod
    def _of_the_first(cls, value: Any, info: ValidationInfo) -> Any:
        return {info.data["features"][0]: value} if isinstance(value, str) and info.data.get("features") else value

    @model_validator(mode="after")
    def _referred(self) -> Self:
        for name in self.reference:
            if name == "judge":
                raise ValueError(
                    "reference.judge: the judge compares with the data that it was trained on, never a file"
                )
            if name not in self.features:
                raise ValueError(f"reference.{name}: no such feature space here; {nearest(name, self.features)}")
        return self


class Evaluation(Sampling, ScoringConfig):
    """An evaluation: all fields, the training run and the references (or the judge) are its identity."""

    @property
    def needs_data(self) -> bool:
        """Whether it uses the training's images: for a score without a given reference, or for given streams."""
        return bool(self.given) or any(name not in self.reference for name in self.features)


def identity(*parts: Any) -> str:
    """The name of a run: a hash of everything that determines its result."""
    name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
    return re.sub(r"^\d(\d*(e\d+)?)$", r"a\1", name)  # YAML and CSV would read 9e3051239878 as a number


def training_of(folder: Path, **changes: Any) -> Training:
    """The training config in a run's folder; ``changes`` override fields. Raises `UserError` if it has none."""
    try:
        config = dict(json.loads((folder / "config.json").read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"cannot read {folder / 'config.json'}: {error}") from None
    return parse(Training, {k: v for k, v in config.items() if k not in PROVENANCE} | changes, where=str(folder))
