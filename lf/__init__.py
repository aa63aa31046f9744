"""Streams, schedules, network, training, sampling and evaluation of multi-stream diffusion models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lf.denoiser import LatentForcing

__all__ = ["LatentForcing"]


def __getattr__(name: str) -> Any:
    """`LatentForcing`, imported at first use: the commands do not wait for what they do not need."""
    if name == "LatentForcing":
        from lf.denoiser import LatentForcing

        return LatentForcing
    raise AttributeError(f"module 'lf' has no attribute '{name}'")
