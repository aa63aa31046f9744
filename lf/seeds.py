"""Randomness by name: a draw depends on what it is for, never on what was drawn before."""

import hashlib

import torch


def generator(purpose: str, *numbers: int) -> torch.Generator:
    """A CPU generator of its own for ``purpose`` and ``numbers``, such as ``("image", seed, index)``."""
    digest = hashlib.sha256(f"{purpose} {numbers}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
