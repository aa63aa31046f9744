"""Embeddings of patches, times and positions."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lf.diffusion.streams import Stream


class PatchEmbed(nn.Module):
    """A stream's patches → tokens: linear layer without bias to a bottleneck, then linear layer to the width.

    The weights have the shapes of convolutions, as published; they are applied as matrix products, which is faster.
    """

    def __init__(self, stream: Stream, bottleneck: int, width: int):
        super().__init__()
        self.proj1 = nn.Conv2d(stream.channels, bottleneck, stream.patch, stream.patch, bias=False)
        self.proj2 = nn.Conv2d(bottleneck, width, 1)

    def forward(self, z: Tensor) -> Tensor:
        patches = patchify(z, self.proj1.stride[0])  # type: ignore[arg-type]
        x = F.linear(patches, self.proj1.weight.permute(0, 2, 3, 1).flatten(1))
        return F.linear(x, self.proj2.weight.flatten(1), self.proj2.bias)


class TimeEmbed(nn.Module):
    """256 sinusoids of ``t`` in [0, 1] (cosines, then sines; period 10000), then Linear-SiLU-Linear."""

    frequency: Tensor

    def __init__(self, width: int, frequencies: int = 256):
        super().__init__()
        half = frequencies // 2
        frequency = torch.exp(-math.log(10000) * torch.arange(half) / half)
        self.register_buffer("frequency", frequency, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        angle = t.float()[:, None] * self.frequency
        return self.mlp(torch.cat([angle.cos(), angle.sin()], -1))


def sincos_positions(grid: int, width: int) -> Tensor:
    """Fixed 2-D position embedding ``(grid², width)``: first half from the column, second from the row.

    Each half is sines then cosines with frequencies ``10000^(-i/(width/4))``.
    """
    quarter = width // 4
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], -1)
    columns, rows = axis[None].expand(grid, grid, -1), axis[:, None].expand(grid, grid, -1)
    return torch.cat([columns, rows], -1).flatten(0, 1).float()


def patchify(x: Tensor, patch: int) -> Tensor:
    """``(B, C, H, W)`` → ``(B, tokens, patch²·C)``, per token (row, column, channel), channel fastest."""
    x = x.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # B C h p w q
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(tokens: Tensor, stream: Stream) -> Tensor:
    """Inverse of `patchify`: ``(B, tokens, patch²·C)`` → ``(B, C, H, W)``."""
    g, p = stream.grid, stream.patch
    x = tokens.unflatten(2, (p, p, stream.channels)).unflatten(1, (g, g))  # B h w p q C
    return x.permute(0, 5, 1, 3, 2, 4).reshape(tokens.shape[0], *stream.shape)
