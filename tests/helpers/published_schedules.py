"""The published training densities and curves once more, plainly, with the draws in the order of version 0.1."""

import torch
from torch import Generator, Tensor


def drawn(n: int, k: int, generator: Generator, p_latent: float = 0.4) -> tuple[Tensor, Tensor]:
    """Which of k streams each sample trains, and its logit-normal time, with the default means and deviations."""
    latent = torch.rand(n, generator=generator) < p_latent
    which = torch.randint(1, k, (n,), generator=generator)
    normal = torch.randn(n, generator=generator)
    return which * latent, torch.where(latent, -1.2 + 1.0 * normal, -0.4 + 0.8 * normal).sigmoid()


def cascaded(n: int, k: int, generator: Generator) -> Tensor:
    stream, own = drawn(n, k, generator)
    early = torch.rand(n, generator=generator) < 0.1
    uniform = 0.5 * torch.rand(n, generator=generator)
    clean = 1 - 0.25 * torch.rand(n, k, generator=generator)
    place, t = [k - 1, *range(k - 1)], torch.zeros(n, k)
    for row in range(n):
        s = int(stream[row])
        for i in range(k):
            t[row, i] = clean[row, i] if place[i] < place[s] else 0
        t[row, s] = uniform[row] if s == 0 and early[row] else own[row]
    return t


def f(a: float, t: Tensor) -> Tensor:
    return a * t / (a * t + (1 - t))


def shifted(u: Tensor, k: int, alpha: float) -> Tensor:
    return torch.stack([f(alpha ** (0.5 - place / (k - 1)), u) for place in (k - 1, *range(k - 1))], -1)


def offset(u: Tensor, k: int, o: float) -> Tensor:
    places = (k - 1, *range(k - 1))
    late = torch.tensor([abs(o) * (p if o >= 0 else k - 1 - p) / (k - 1) for p in places], dtype=u.dtype)
    return ((u[:, None] - late) / (1 - late)).clamp_min(0)
