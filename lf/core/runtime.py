"""Where and how a command runs: device, threads, batch sizes, folder of the run store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from lf.core.errors import UserError
from lf.core.parsing import Strict

if TYPE_CHECKING:
    import torch  # imported where it is used, so that commands that only read start fast


class Runtime(Strict):
    """Where and how a command runs. It changes results only by rounding, so it is not part of an identity."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")
    threads: int = Field(0, ge=0, description="CPU threads; 0 leaves torch's default")
    compile: bool = Field(True, description="torch.compile of the transformer's blocks")
    batch: int = Field(125, ge=1, description="images sampled at a time")
    micro_batch: int = Field(
        0,
        ge=0,
        description="training images per forward pass and process (gradient accumulation); 0: the whole share",
    )
    workers: int = Field(2, ge=0, description="processes that read shards, for each training process")
    latents: Literal["auto", "cached", "online"] = Field(
        "auto", description="cached: read lf.encoders.cache's files; auto: if they exist"
    )
    limit_damaged: int = Field(0, ge=0, description="damaged images skipped before training stops")
    checkpoint_seconds: float = Field(60, gt=0, description="time between two checkpoints")
    weights: dict[str, str] = Field({}, description="file of an extractor's weights, by feature space")
    wandb: str = Field("", description="Weights & Biases project that also gets TensorBoard's curves")
    runs: Annotated[str, AfterValidator(os.path.expanduser)] = Field(
        "runs", description="folder of the run store; short: runs=FOLDER"
    )

    @property
    def cache(self) -> Path:
        """Folder of cached results: decoded data, encoders, judges."""
        return Path(self.runs) / "cache"

    @property
    def torch_device(self) -> torch.device:
        """The device; ``auto`` is resolved. Raises `UserError` if it cannot be used."""
        import torch

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
            import torch

            torch.set_num_threads(self.threads)
