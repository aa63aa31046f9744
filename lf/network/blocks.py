"""Parts of the transformer: attention with 2-D RoPE, SwiGLU, adaLN-zero blocks and heads (JiT)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Below this many tokens plain softmax attention is faster on a CPU than the fused kernel's backward.
PLAIN_ATTENTION_TOKENS = 64


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN: ``x (1 + scale) + shift``, with ``x`` ``(B, tokens, width)`` and conditions ``(B, width)``."""
    return x * (1 + scale[:, None]) + shift[:, None]


class RMSNorm(nn.Module):
    """Root-mean-square norm with a learned weight, computed in float32."""

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * self.weight).to(x.dtype)


def rope_table(grid: int, head_width: int, class_tokens: int, theta: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the 2-D rotary embedding, each ``(class_tokens + grid², head_width)``.

    The first half of a head rotates with the row, the second with the column; class tokens are not rotated.
    """
    half = head_width // 2
    frequency = theta ** (-torch.arange(0, half, 2, dtype=torch.float64) / half)
    angle = (torch.arange(grid, dtype=torch.float64)[:, None] * frequency).repeat_interleave(2, -1)
    rows, columns = angle[:, None].expand(grid, grid, half), angle[None].expand(grid, grid, half)
    angle = torch.cat([rows, columns], -1).flatten(0, 1)
    angle = torch.cat([angle.new_zeros(class_tokens, head_width), angle])
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Applies `rope_table` to ``(..., tokens, head_width)``: interleaved pairs (a, b) → (-b, a)."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-second, first], -1).flatten(-2)
    return x * cos + turned * sin


class Attention(nn.Module):
    """Self-attention with qkv bias and RMSNorm of queries and keys per head."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = RMSNorm(width // heads)
        self.k_norm = RMSNorm(width // heads)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q = rotate(self.q_norm(q), cos, sin).to(v.dtype)
        k = rotate(self.k_norm(k), cos, sin).to(v.dtype)
        if x.shape[1] <= PLAIN_ATTENTION_TOKENS and x.device.type == "cpu":
            out = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1).to(v.dtype) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    """``w3(silu(gate) · value)``; inner width ``int(4 · width · 2/3)``."""

    def __init__(self, width: int):
        super().__init__()
        inner = int(4 * width * 2 / 3)
        self.w12 = nn.Linear(width, 2 * inner)
        self.w3 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, -1)
        return self.w3(F.silu(gate) * value)


class Block(nn.Module):
    """adaLN-zero block; the condition and the tokens may differ in width (output experts)."""

    def __init__(self, width: int, heads: int, condition_width: int):
        super().__init__()
        self.norm1 = RMSNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = RMSNorm(width)
        self.mlp = SwiGLU(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(condition_width, 6 * width))

    def forward(self, x: Tensor, c: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, -1)
        x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1), cos, sin)
        return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))


class Head(nn.Module):
    """RMSNorm, adaLN (shift and scale), linear layer to the patch values of its streams."""

    def __init__(self, width: int, outputs: int, condition_width: int):
        super().__init__()
        self.norm_final = RMSNorm(width)
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(condition_width, 2 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, -1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class Branch(nn.Module):
    """Output expert of one stream: linear layer to its own width, blocks, head (LF)."""

    def __init__(self, width: int, expert_width: int, head_width: int, depth: int, outputs: int):
        super().__init__()
        self.proj = nn.Linear(width, expert_width)
        heads = expert_width // head_width
        self.blocks = nn.ModuleList(Block(expert_width, heads, width) for _ in range(depth))
        self.head = Head(expert_width, outputs, width)

    def forward(self, x: Tensor, c: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = self.proj(x)
        for block in self.blocks:
            x = block(x, c, cos, sin)
        return self.head(x, c)
