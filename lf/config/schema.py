"""The typed configs. An unknown key or a bad value is a one-line error that names it and what is allowed."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lf import schedules
from lf.core.errors import UserError, nearest
from lf.core.parsing import Strict, parse
from lf.core.plugins import by_name
from lf.core.runtime import Runtime
from lf.diffusion.flow import shift
from lf.diffusion.guidance import Guidance
from lf.diffusion.streams import Stream
from lf.encoders import AnyEncoder, Encoder
from lf.network import NetworkConfig
from lf.schedules import Schedule

DEFAULTS = "evaluation.yaml"  # in a run's folder: how `lf.convert` found its images to be drawn
PROVENANCE = ("data_digest", "source", "weights_sha256")  # in config.json beside the training config

AnySchedule = Annotated[SerializeAsAny[Schedule], by_name(schedules.create)]
DType = Literal["float32", "bfloat16"]
Decays = Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], BeforeValidator(lambda v: _listed(v, int | float))]
Names = Annotated[tuple[str, ...], BeforeValidator(lambda v: _listed(v, str))]


def _listed(value: Any, single: Any) -> Any:
    return (value,) if isinstance(value, single) else value


class Source(Strict):
    """The data set, and the runtime."""

    data: str = Field("shapes", description="shapes, digits, folder:PATH or shards:PATH (lf.data.prepare)")
    resolution: int = Field(32, ge=8, description="height and width of the images, in pixels")
    runtime: Runtime = Runtime()


class Training(Source):
    """A training run: all fields but ``runtime``, with the data's digest, are its identity."""

    flip: bool = Field(False, description="mirror half of the images, left to right")
    noise_scale: float = Field(1.0, gt=0, description="standard deviation of every stream's noise; JiT: 2 at 512 px")
    latents: tuple[AnyEncoder, ...] = Field((), description="encoders of the latent streams; none: JiT")
    network: NetworkConfig = NetworkConfig()
    schedule: AnySchedule = Field(default_factory=lambda: schedules.create("pixel_only"))
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
        self.streams  # noqa: B018 (an encoder may refuse the patch size)
        object.__setattr__(self, "schedule", self.schedule.over(1 + len(self.latents)))
        return self

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """The encoders of the latents, then REPA's."""
        return (*self.latents, *([self.repa] if self.repa else []))

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams: pixels, then the latents."""
        patch = self.network.patch
        latents = (encoder.stream(self.resolution, patch) for encoder in self.latents)
        return (Stream("pixels", 3, self.resolution, patch), *_distinct(latents))

    def lr_at(self, step: int) -> float:
        """Learning rate of ``step``, counted from 0: linear warm-up, then constant, cosine or linear (to 0)."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        falling = {"constant": 1.0, "cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done}
        return self.lr * falling[self.lr_schedule]


def _distinct(latents: Iterable[Stream]) -> list[Stream]:
    """Makes stream names distinct: a latent called ``pixels`` becomes ``pixels_latent``, the second ``x`` ``x_2``."""
    named, seen = [], Counter[str]()
    for stream in latents:
        name = "pixels_latent" if stream.name == "pixels" else stream.name
        seen[name] += 1
        named.append(replace(stream, name=name if seen[name] == 1 else f"{name}_{seen[name]}"))
    return named


class Sampling(Strict):
    """How images are sampled from a trained network."""

    path: AnySchedule | None = Field(None, description="schedule whose path is followed; the training's by default")
    steps: int = Field(50, ge=1, description="solver steps")
    shift: dict[str, float] = Field({}, description="f_a (LF Eq. 4) of a stream's times on the path, by stream name")
    solver: Literal["heun", "heun_per_stream", "euler"] = Field("heun", description="see lf.diffusion.solver.sample")
    t_clip: float = Field(0.05, gt=0, le=1, description="lower bound of 1-t in the velocity")
    latent_noise: float = Field(0.0, ge=0, lt=1, description="share of fresh noise in finished latents (LF Table 7)")
    guidance: Guidance = Guidance()
    weights: str = Field("ema", pattern=r"^(raw|ema\d*)$", description="ema, ema2, … or raw")
    dtype: DType = Field("float32", description="number format of matrix products (autocast)")
    seed: int = Field(0, ge=0, description="seed of the images' noise")

    def path_for(self, training: Training) -> torch.Tensor:
        """Time vectors of the path, ``(steps+1, streams)``. Raises `UserError` if schedule and steps do not fit."""
        names = [stream.name for stream in training.streams]
        self.guidance.check(names)
        for name, a in self.shift.items():
            if name not in names or a <= 0:
                raise UserError(
                    f"shift.{name}={a}: needs the name of a stream, {nearest(name, names)}, and a value > 0"
                )
        schedule = training.schedule if self.path is None else self.path.over(len(training.streams))
        path = schedule.path(self.steps)
        return torch.stack([shift(t, self.shift.get(name, 1.0)) for name, t in zip(names, path.T, strict=True)], 1)


class ScoringConfig(Strict):
    """The number of images that are scored, the feature spaces, and the references."""

    n: int = Field(50_000, ge=2, description="number of images")
    features: Names = Field(("judge",), min_length=1, description="feature spaces of the scores; see lf.metrics")
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
            if name not in self.features:
                raise ValueError(f"reference.{name}: no such feature space here; {nearest(name, self.features)}")
        return self


class Evaluation(Sampling, ScoringConfig):
    """An evaluation: all fields, the training run and the references (or the judge) are its identity."""


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
