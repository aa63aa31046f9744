"""Streams, schedules, network, training, sampling and evaluation of multi-stream diffusion models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lf.model.denoiser import LatentForcing

__all__ = ["LatentForcing"]


def __getattr__(name: str) -> Any:
    """Imports `LatentForcing` at first use, so that commands that do not need torch start fast."""
    if name == "LatentForcing":
        from lf.model.denoiser import LatentForcing

        return LatentForcing
    raise AttributeError(f"module 'lf' has no attribute '{name}'")
