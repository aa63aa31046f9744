"""Randomness by name: a draw depends on what it is for, never on what was drawn before."""

import hashlib

import torch


def generator(purpose: str, *numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for ``purpose`` and ``numbers``, such as ``("image", seed, index)``."""
    digest = hashlib.sha256(f"{purpose} {numbers}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
