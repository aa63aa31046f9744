"""One typed tree for everything. A wrong key or value is one line that names it and what is allowed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

from lf import encoders, schedules
from lf.encoders import Encoder
from lf.errors import UserError, nearest
from lf.guidance import Guidance
from lf.network import NetworkConfig
from lf.plugins import explain
from lf.presets import PRESETS
from lf.schedules import Schedule
from lf.streams import Stream


class Strict(BaseModel):
    """Base of all configs: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _plugin(room: Any) -> BeforeValidator:
    """Lets a config name a plugin: ``cascaded`` or ``{name: cascaded, p_latent: 0.4}``."""

    def build(value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        return room.create(**value) if isinstance(value, Mapping) and "name" in value else value

    return BeforeValidator(build)


AnySchedule = Annotated[SerializeAsAny[Schedule], _plugin(schedules)]
AnyEncoder = Annotated[SerializeAsAny[Encoder], _plugin(encoders)]
DType = Literal["float32", "bfloat16"]


class Runtime(Strict):
    """Where and how it runs. Nothing here changes a result beyond rounding, so it is no part of an identity."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")
    threads: int = Field(0, ge=0, description="CPU threads; 0 leaves torch's default")
    compile: bool = Field(True, description="torch.compile of the transformer's blocks")
    batch: int = Field(125, ge=1, description="images sampled at a time")
    checkpoint_seconds: float = Field(60, gt=0, description="time between two checkpoints")
    runs: str = Field("runs", description="folder of the run store")

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


class Training(Strict):
    """A training run: all fields but ``runtime``, with the data's digest, are its identity."""

    data: str = Field("shapes", description="shapes, digits or folder:PATH")
    resolution: int = Field(32, ge=8, description="of the images, in pixels")
    latents: tuple[AnyEncoder, ...] = Field((), description="encoders of the latent streams; none is JiT")
    network: NetworkConfig = NetworkConfig()
    schedule: AnySchedule = Field(default_factory=lambda: schedules.create("pixel_only"))
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    ema: float = Field(0.9999, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    label_dropout: float = Field(0.1, ge=0, le=1)
    repa: AnyEncoder | None = Field(None, description="encoder that network.repa_block is aligned to (REPA)")
    repa_weight: float = Field(0.5, gt=0, description="λ of the alignment loss 1 - cos")
    dtype: DType = Field("bfloat16", description="of the matrix products (autocast)")
    seed: int = Field(0, ge=0)
    runtime: Runtime = Runtime()

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
        self.streams  # noqa: B018 (an encoder may refuse the patch size)
        object.__setattr__(self, "schedule", self.schedule.over(1 + len(self.latents)))
        return self

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Pixels, then the latents."""
        patch = self.network.patch
        latents = (Stream(e.name, e.channels(patch), self.resolution // patch, 1, e.loss_weight) for e in self.latents)
        return (Stream("pixels", 3, self.resolution, patch), *_distinct(latents))


def _distinct(latents: Any) -> Sequence[Stream]:
    """A latent may not be called ``pixels`` as the image is: it becomes ``pixels_latent``."""
    return [Stream(**{**vars(s), "name": "pixels_latent"}) if s.name == "pixels" else s for s in latents]


class Sampling(Strict):
    """How images are drawn from a trained network."""

    path: AnySchedule | None = Field(None, description="schedule whose path is followed; the training's by default")
    steps: int = Field(50, ge=1)
    solver: Literal["heun", "euler"] = "heun"
    t_clip: float = Field(0.05, gt=0, le=1, description="lower bound of 1-t in the velocity")
    guidance: Guidance = Guidance()
    weights: Literal["ema", "raw"] = "ema"
    dtype: DType = "float32"
    seed: int = Field(0, ge=0)

    def path_for(self, training: Training) -> torch.Tensor:
        """Time vectors ``(steps+1, streams)``. Raises `UserError` where schedule and steps do not fit."""
        self.guidance.check([stream.name for stream in training.streams])
        schedule = training.schedule if self.path is None else self.path.over(len(training.streams))
        return schedule.path(self.steps)


class Evaluation(Sampling):
    """An evaluation: all fields, the training run and the judge are its identity."""

    n: int = Field(50_000, ge=2, description="number of images")


def identity(*parts: Any) -> str:
    """The name of a run: a hash of everything that makes it what it is."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


C = TypeVar("C", bound=BaseModel)


def parse(model: type[C], values: Mapping[str, Any], where: str = "config") -> C:
    """A config of type ``model``. Raises `UserError`, one line, on the first fault."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(explain(error, model, where)) from None


def overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """``key=value`` words → nested values, typed as YAML; ``schedule=cascaded`` is short for its name."""
    words = []
    for word in arguments:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UserError(f"'{word}': expected key=value")
        if key.rpartition(".")[2] in ("schedule", "path") and not value.startswith("{"):
            word = f"{key}.name={value}"
        words.append(word)
    try:
        return dict(OmegaConf.to_container(OmegaConf.from_dotlist(words)))  # type: ignore[arg-type]
    except OmegaConfBaseException as error:
        raise UserError(f"{' '.join(arguments)}: {str(error).splitlines()[0]}") from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` on top of ``base``; naming another plugin drops the old one's parameters."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, str) and isinstance(value, Mapping):
            old = {"name": old}
        same = (
            isinstance(old, Mapping)
            and isinstance(value, Mapping)
            and value.get("name", old.get("name")) == old.get("name")
        )
        merged[key] = merge(old, value) if same else value  # type: ignore[arg-type]
    return merged


def preset(name: str) -> dict[str, Any]:
    """The preset ``name``: values for ``training`` and ``evaluation``."""
    if name not in PRESETS:
        raise UserError(f"preset={name}: unknown; {nearest(name, PRESETS)}")
    return PRESETS[name]


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
        default = getattr(default, "name", default)
        lines.append(f"  {prefix + key:<28} {str(default):<12} {field.description or ''}".rstrip())
    return lines
