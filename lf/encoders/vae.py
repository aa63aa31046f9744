"""`vae`: a pretrained variational autoencoder in the format of diffusers' ``AutoencoderKL``."""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from lf.core.errors import UserError
from lf.data.base import Dataset
from lf.data.loader import cores
from lf.encoders.base import LATENT_STD, Codec, Encode, Encoder
from lf.encoders.weights import digest as weights_digest
from lf.encoders.weights import find
from lf.encoders.whitening import EPS, measure
from lf.storage.cache import cache_file, made_once, read_cached

FILES = ("config.json", "diffusion_pytorch_model.safetensors")


class VAE(Encoder):
    """The posterior's mean (arXiv 2112.10752), whitened per channel, or scaled by its config's scaling_factor."""

    name: Literal["vae"] = "vae"
    weights: str = Field("stabilityai/sd-vae-ft-mse", description="folder or hub id of diffusers' AutoencoderKL")
    scale: Literal["data", "config"] = Field(
        "data", description="data: whiten by the latents' statistics; config: scale by scaling_factor"
    )
    has_decoder: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ("weights",)

    def channels(self, patch: int) -> int:
        if patch % self.cell(patch):
            raise UserError(f"vae: its cell size of {self.cell(patch)} pixels must divide the patch size {patch}")
        return self._about()["latent_channels"]

    def cell(self, patch: int) -> int:
        return 2 ** (len(self._about()["block_out_channels"]) - 1)  # every block but the last halves the image

    def load(self, data: Dataset, patch: int, cache: Path) -> Encode:
        net = self._net()
        if self.scale == "data":
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            file, workers = self._statistics(data.digest, cache), min(4, cores())
            found = made_once(file, lambda: measure(net.to(device).code, data, "channel", device, workers=workers)[0])
            net.whiten(found)
        return net.cpu()

    def codec(self, digest: str, patch: int, cache: Path) -> Codec:
        net = self._net()
        if self.scale == "data":
            file = self._statistics(digest, cache)
            if not file.exists():
                raise UserError(
                    f"vae: {file}, with the scale of its latents, is missing; copy it from the training's run store"
                )
            net.whiten(read_cached(file))
        return net

    def check(self) -> None:
        self._place()

    def _place(self) -> Path:
        return find("vae.weights", self.weights, self.weights, FILES)

    def _statistics(self, digest: str, cache: Path) -> Path:
        what = f"{weights_digest(self._place())} {digest}"
        return cache_file(cache, "whitening-vae", what)

    def _about(self) -> dict[str, Any]:
        """Its config. Raises `UserError` if it is missing or of another kind of model."""
        file = find("vae.weights", self.weights, self.weights, FILES[:1]) / FILES[0]
        try:
            said = json.loads(file.read_text())
            if said["_class_name"] == "AutoencoderKL":
                return said
            fault = f"is a {said['_class_name']}"
        except (OSError, ValueError, KeyError, TypeError) as error:
            fault = f"has no config: {error!r}"
        raise UserError(f"vae.weights={self.weights}: {fault}; it must be a folder of AutoencoderKL.save_pretrained")

    def _net(self) -> "Net":
        try:
            from diffusers import AutoencoderKL  # imported here only: it takes seconds
        except ImportError:
            raise UserError("vae: the package diffusers is not installed; pip install 'lf[vae]'") from None
        place, about = self._place(), self._about()
        try:
            with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then replaced
                model, report = AutoencoderKL.from_pretrained(
                    place, local_files_only=True, low_cpu_mem_usage=False, output_loading_info=True
                )
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            raise UserError(f"vae.weights={place}: cannot be read: {' '.join(str(error).split())[:200]}") from None
        if report["missing_keys"]:
            raise UserError(f"vae.weights={place}: has no {report['missing_keys'][0]}")
        net = Net(model.float(), about["latent_channels"])
        if self.scale == "config":
            net.mean += about.get("shift_factor") or 0
            net.std /= about["scaling_factor"]
        return net.eval().requires_grad_(False)


class Net(Codec):
    """An ``AutoencoderKL``; its latents have standard deviation `LATENT_STD` after ``mean`` and ``std`` are set."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, channels: int):
        super().__init__()
        self.model: Any = model
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def whiten(self, statistics: dict[str, Tensor]) -> None:
        """Sets ``mean`` and ``var``, each ``(C, 1, 1)``."""
        self.mean, self.std = statistics["mean"], (statistics["var"] + EPS).sqrt()

    def code(self, x: Tensor) -> Tensor:
        """Images in [-1, 1] → the posterior's mean, not scaled."""
        return self.model.encode(x).latent_dist.mean

    def forward(self, x: Tensor) -> Tensor:
        return (self.code(x) - self.mean) / self.std * LATENT_STD

    def decode(self, latents: Tensor) -> Tensor:
        return self.model.decode(latents / LATENT_STD * self.std + self.mean).sample.clamp(-1, 1)
