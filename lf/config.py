"""One typed tree for everything. A wrong key or value is one line that names it and what is allowed."""

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
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)
from yaml import YAMLError

from lf import schedules
from lf.encoders import AnyEncoder, Encoder
from lf.errors import UserError, nearest
from lf.flow import shift
from lf.guidance import Guidance
from lf.network import NetworkConfig
from lf.plugins import Plugin, by_name
from lf.presets import PRESETS
from lf.schedules import Schedule
from lf.streams import Stream
from lf.values import Strict, merge, overrides, parse

AnySchedule = Annotated[SerializeAsAny[Schedule], by_name(schedules.create)]
DType = Literal["float32", "bfloat16"]
Decays = Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], BeforeValidator(lambda v: _listed(v, int | float))]
Names = Annotated[tuple[str, ...], BeforeValidator(lambda v: _listed(v, str))]


def _listed(value: Any, single: Any) -> Any:
    return (value,) if isinstance(value, single) else value


class Runtime(Strict):
    """Where and how it runs. Nothing here changes a result beyond rounding, so it is no part of an identity."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")
    threads: int = Field(0, ge=0, description="CPU threads; 0 leaves torch's default")
    compile: bool = Field(True, description="torch.compile of the transformer's blocks")
    batch: int = Field(125, ge=1, description="images sampled at a time")
    micro_batch: int = Field(0, ge=0, description="training images a pass and process, gradients accumulated; 0: all")
    workers: int = Field(2, ge=0, description="processes that read shards, for each training process")
    latents: Literal["auto", "cached", "online"] = Field(
        "auto", description="cached: lf.encoders.cache; auto: if there"
    )
    limit_damaged: int = Field(0, ge=0, description="damaged images skipped before training stops")
    checkpoint_seconds: float = Field(60, gt=0, description="time between two checkpoints")
    weights: dict[str, str] = Field({}, description="file of an extractor's weights, by feature space")
    wandb: str = Field("", description="project on Weights & Biases that TensorBoard's curves are sent to, too")
    runs: str = Field("runs", description="folder of the run store")

    @property
    def cache(self) -> Path:
        """Folder for what is made once: decoded data, encoders, judges."""
        return Path(self.runs) / "cache"

    @property
    def torch_device(self) -> torch.device:
        """The device, resolved."""
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(auto if self.device == "auto" else self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"runtime.device={self.device}: {str(error).splitlines()[0]}") from None
        return device

    def apply(self) -> None:
        """Sets the number of CPU threads."""
        if self.threads:
            torch.set_num_threads(self.threads)


class Source(Strict):
    """Which images, and where and how what is made of them is made."""

    data: str = Field("shapes", description="shapes, digits, folder:PATH or shards:PATH (lf.data.prepare)")
    resolution: int = Field(32, ge=8, description="of the images, in pixels")
    runtime: Runtime = Runtime()


class Training(Source):
    """A training run: all fields but ``runtime``, with the data's digest, are its identity."""

    flip: bool = Field(False, description="mirror half of the images, left to right")
    noise_scale: float = Field(1.0, gt=0, description="standard deviation of every stream's noise; JiT: 2 at 512 px")
    latents: tuple[AnyEncoder, ...] = Field((), description="encoders of the latent streams; none is JiT")
    network: NetworkConfig = NetworkConfig()
    schedule: AnySchedule = Field(default_factory=lambda: schedules.create("pixel_only"))
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)
    lr_schedule: Literal["constant", "cosine", "linear"] = Field("constant", description="after warm-up, down to 0")
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    ema: Decays = Field((0.9999, 0.9998), min_length=1, description="decay of each average of the weights")
    clip: float = Field(0.0, ge=0, description="largest norm of the gradient; 0: no clipping")
    weight_decay: float = Field(0.0, ge=0)
    label_dropout: float = Field(0.1, ge=0, le=1)
    repa: AnyEncoder | None = Field(None, description="encoder that network.repa_block is aligned to (REPA)")
    repa_weight: float = Field(0.5, gt=0, description="λ of the alignment loss 1 - cos")
    dtype: DType = Field("bfloat16", description="of the matrix products (autocast)")
    seed: int = Field(0, ge=0)

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
        """The latents', then REPA's."""
        return (*self.latents, *([self.repa] if self.repa else []))

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Pixels, then the latents."""
        patch = self.network.patch
        latents = (encoder.stream(self.resolution, patch) for encoder in self.latents)
        return (Stream("pixels", 3, self.resolution, patch), *_distinct(latents))

    def lr_at(self, step: int) -> float:
        """Learning rate of ``step``: linear warm-up, then constant, or down to 0 as a cosine or a line."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        falling = {"constant": 1.0, "cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done}
        return self.lr * falling[self.lr_schedule]


def _distinct(latents: Iterable[Stream]) -> list[Stream]:
    """A latent may not be called ``pixels`` as the image is: it is ``pixels_latent``; the second ``x`` is ``x_2``."""
    named, seen = [], Counter[str]()
    for stream in latents:
        name = "pixels_latent" if stream.name == "pixels" else stream.name
        seen[name] += 1
        named.append(replace(stream, name=name if seen[name] == 1 else f"{name}_{seen[name]}"))
    return named


class Sampling(Strict):
    """How images are drawn from a trained network."""

    path: AnySchedule | None = Field(None, description="schedule whose path is followed; the training's by default")
    steps: int = Field(50, ge=1)
    shift: dict[str, float] = Field({}, description="f_a (LF Eq. 4) of a stream's times on the path, by stream name")
    solver: Literal["heun", "heun_per_stream", "euler"] = Field("heun", description="see lf.sampler.sample")
    t_clip: float = Field(0.05, gt=0, le=1, description="lower bound of 1-t in the velocity")
    latent_noise: float = Field(0.0, ge=0, lt=1, description="share of fresh noise in finished latents (LF Table 7)")
    guidance: Guidance = Guidance()
    weights: str = Field("ema", pattern=r"^(raw|ema\d*)$", description="ema, ema2, … or raw")
    dtype: DType = "float32"
    seed: int = Field(0, ge=0)

    def path_for(self, training: Training) -> torch.Tensor:
        """Time vectors ``(steps+1, streams)``. Raises `UserError` where schedule and steps do not fit."""
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


class Judging(Strict):
    """How many images are scored, in which feature spaces, against what."""

    n: int = Field(50_000, ge=2, description="number of images")
    features: Names = Field(("judge",), min_length=1, description="feature spaces that judge; see lf.metrics")
    reference: dict[str, str] = Field(
        {}, description="statistics to compare with, an .npz a feature space; else the data"
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


class Evaluation(Sampling, Judging):
    """An evaluation: all fields, the training run and the judge are its identity."""


def identity(*parts: Any) -> str:
    """The name of a run: a hash of everything that makes it what it is."""
    name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
    return re.sub(r"^\d(\d*(e\d+)?)$", r"a\1", name)  # YAML and CSV would read 9e3051239878 as a number


def preset(name: str) -> dict[str, Any]:
    """The preset ``name``: values for ``training`` and ``evaluation``; or those in a file, ``name.yaml``."""
    if name.endswith(".yaml"):
        return _preset_file(name)
    if name not in PRESETS:
        raise UserError(f"preset={name}: unknown; {nearest(name, PRESETS)}; or a file of your own, my_preset.yaml")
    return PRESETS[name]


def _preset_file(name: str) -> dict[str, Any]:
    try:
        found = OmegaConf.to_container(OmegaConf.load(name))
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"preset={name}: {getattr(error, 'strerror', None) or str(error).splitlines()[0]}") from None
    sections: dict[str, Any] = {"training": {}, "evaluation": {}}
    for section, values in found.items() if isinstance(found, dict) else [(name, None)]:
        if section not in sections or not isinstance(values, dict):
            raise UserError(f"preset={name}: must hold 'training' and 'evaluation', or one of them, with their keys")
        sections[str(section)] = values
    return sections


def help_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    """One line a key: name, default and meaning, for ``--help``."""
    lines: list[str] = []
    for key, field in model.model_fields.items():
        if (
            isinstance(field.annotation, type)
            and issubclass(field.annotation, BaseModel)
            and field.annotation not in (Schedule, Encoder)
        ):
            lines += help_of(field.annotation, f"{prefix}{key}.")
            continue
        default = "" if field.is_required() else field.get_default(call_default_factory=True)
        named = getattr(default, "name", default)
        lines.append(f"  {prefix + key:<28} {str(named):<12} {field.description or ''}".rstrip())
        if isinstance(default, Plugin):
            lines += [line for line in help_of(type(default), f"{prefix}{key}.") if f"{key}.name " not in line]
    return lines


__all__ = [
    "Evaluation", "Judging", "Runtime", "Sampling", "Source", "Strict", "Training",
    "help_of", "identity", "merge", "overrides", "parse", "preset",
]  # fmt: skip
