"""Random generators by purpose: a draw depends on its purpose and numbers, never on earlier draws."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def generator(purpose: str, *numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A new generator, seeded by ``purpose`` and ``numbers``, such as ``("image", seed, index)``."""
    import torch

    digest = hashlib.sha256(f"{purpose} {numbers}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
