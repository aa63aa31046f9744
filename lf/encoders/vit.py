"""`timm:NAME` and `hf:NAME`: the final patch tokens of any vision transformer of timm or transformers."""

import difflib
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from lf.core.errors import UserError
from lf.encoders.pretrained import MEAN, STD, Backbone, Pretrained
from lf.encoders.weights import find

WEIGHTS = "model.safetensors"


class Timm(Pretrained):
    """A model of timm, with the patch size, normalisation and weights of timm's config."""

    name: Literal["timm"] = "timm"
    model: str = Field("", description="name in timm, such as vit_small_patch16_224")

    hub_files: ClassVar[tuple[str, ...]] = (WEIGHTS,)

    def published(self) -> str:
        repository = _timm(self.model).pretrained_cfg.get("hf_hub_id")
        if not repository:
            raise UserError(f"timm.model={self.model}: timm has no weights for it; give timm.weights=FILE")
        return repository

    def channels(self, patch: int) -> int:
        return _timm(self.model).num_features

    def backbone(self, place: Path, grid: int) -> Backbone:
        import timm

        about, file = _timm(self.model), place / WEIGHTS if place.is_dir() else place
        cell = about.patch_embed.patch_size[0]
        source = {"file": str(file), "custom_load": False}
        net = timm.create_model(self.model, pretrained=True, img_size=cell * grid, pretrained_cfg_overlay=source)
        return Backbone(_Features(net), cell, about.pretrained_cfg["mean"], about.pretrained_cfg["std"])


@cache
def _timm(name: str) -> Any:
    """A model of timm on the meta device. Raises `UserError` if it is no vision transformer."""
    import timm  # imported here only: it takes seconds

    if not name:
        raise UserError("timm.model: must be given, as in timm:vit_small_patch16_224")
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=1)
        raise UserError(f"timm.model={name}: unknown to timm" + (f"; did you mean '{close[0]}'?" if close else ""))
    with torch.device("meta"):
        model = timm.create_model(name)
    if not hasattr(model, "num_prefix_tokens") or not hasattr(model, "patch_embed"):
        raise UserError(f"timm.model={name}: not a vision transformer")
    return model


class _Features(nn.Module):
    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.forward_features(x)


class Transformers(Pretrained):
    """Base of the encoders of the transformers library, from a folder or a hub repository."""

    hub_files: ClassVar[tuple[str, ...]] = ("config.json", WEIGHTS)

    def from_folder(self, place: Path) -> Any:
        """The model in a folder, in float32; of a model for images and texts, the image encoder."""
        from transformers import AutoModel  # imported here only: it takes seconds

        config = _config(f"{self.name}.weights", place)
        options = {"config": config, "local_files_only": True, "output_loading_info": True}
        with _quiet():
            model, report = AutoModel.from_pretrained(place, **options)
        missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)  # not needed for tokens
        if missing:
            raise UserError(f"{self.name}.weights={place}: has no {missing[0]}")
        return model.float()

    def tokens_of(self, model: Any, mean: Any = MEAN, std: Any = STD) -> Backbone:
        """The backbone that returns the model's last hidden state."""
        cell = model.config.patch_size
        return Backbone(_LastHidden(model), cell if isinstance(cell, int) else cell[0], mean, std)


class HF(Transformers):
    """A model of the transformers library, with the patch size and normalisation of its config files."""

    name: Literal["hf"] = "hf"
    model: str = Field("", description="hub id or folder, such as facebook/dinov2-base")

    hub_files: ClassVar[tuple[str, ...]] = (*Transformers.hub_files, "preprocessor_config.json")

    def published(self) -> str:
        if not self.model:
            raise UserError("hf.model: must be given, as in hf:facebook/dinov2-base")
        return self.model

    def channels(self, patch: int) -> int:
        place = find("hf.weights", self.weights or self.published(), self.published(), ["config.json"])
        return _config("hf.weights", place).hidden_size

    def backbone(self, place: Path, grid: int) -> Backbone:
        file = place / "preprocessor_config.json"
        try:
            said = json.loads(file.read_text())
            mean, std = said["image_mean"], said["image_std"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"hf.weights={place}: no image_mean and image_std in {file.name}: {error!r}") from None
        return self.tokens_of(self.from_folder(place), mean, std)


def _config(key: str, place: Path) -> Any:
    """Config of the vision transformer in a folder. Raises `UserError` if there is none."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(place, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{key}={place}: no config of transformers: {str(error).splitlines()[0]}") from None
    config = getattr(config, "vision_config", config)
    if not hasattr(config, "hidden_size") or not hasattr(config, "patch_size"):
        raise UserError(f"{key}={place}: a {config.model_type} is not a vision transformer")
    return config


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the library's progress bars and reports; errors are raised in one line instead."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


class _LastHidden(nn.Module):
    def __init__(self, model: Any):
        super().__init__()
        self.model = model
        # Models with a position table of fixed size resize it only with this option; other models lack the option.
        resizes = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if resizes else {}

    def forward(self, x: Tensor) -> Tensor:
        return self.model(pixel_values=x, **self.options).last_hidden_state
