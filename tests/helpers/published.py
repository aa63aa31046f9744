"""The public JiT and Latent Forcing networks, samplers and checkpoint files once more, plainly, to check `lf` against.

Nothing here imports `lf`: formulas and key names are those of the papers and of the released files, in the plainest
form that runs. Sizes are free. Streams are called ``pixel`` and ``dino``, as the files call them; t = 1 is clean.
"""

import math

import torch
from torch import Tensor, nn

# ---------------------------------------------------------------------------------------------------- the network


class RMSNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * self.weight


class PatchEmbedder(nn.Module):
    def __init__(self, channels: int, patch: int, bottleneck: int, width: int):
        super().__init__()
        self.proj1 = nn.Conv2d(channels, bottleneck, patch, patch, bias=False)
        self.proj2 = nn.Conv2d(bottleneck, width, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj2(self.proj1(image)).flatten(2).transpose(1, 2)


class TimeEmbedder(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        waves = torch.stack([t * 10000 ** (-i / 128) for i in range(128)], 1)
        return self.mlp(torch.cat([torch.cos(waves), torch.sin(waves)], 1))


class LabelEmbedder(nn.Module):
    def __init__(self, classes: int, width: int):
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, y: Tensor) -> Tensor:
        return self.embedding_table(y)


def rotate(x: Tensor, class_tokens: int) -> Tensor:
    """2-D RoPE, one pair of channels at a time. ``x``: (batch, heads, class tokens + grid², head width)."""
    side, quarter = math.isqrt(x.shape[2] - class_tokens), x.shape[3] // 4
    number = torch.arange(side * side, dtype=torch.float64)
    row, column = number // side, number % side
    out = x.clone()
    for pair in range(2 * quarter):
        place, i = (row, pair) if pair < quarter else (column, pair - quarter)
        angle = place * 10000 ** (-2 * i / (2 * quarter))
        cos, sin = angle.cos().float(), angle.sin().float()
        a, b = x[:, :, class_tokens:, 2 * pair], x[:, :, class_tokens:, 2 * pair + 1]
        out[:, :, class_tokens:, 2 * pair] = a * cos - b * sin
        out[:, :, class_tokens:, 2 * pair + 1] = b * cos + a * sin
    return out


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_norm = RMSNorm(width // heads)
        self.k_norm = RMSNorm(width // heads)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, class_tokens: int) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = (
            part.reshape(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x).split(width, dim=-1)
        )
        q, k = rotate(self.q_norm(q), class_tokens), rotate(self.k_norm(k), class_tokens)
        weights = (q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, width))


class SwiGLU(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.inner = int(4 * width * 2 / 3)
        self.w12 = nn.Linear(width, 2 * self.inner)
        self.w3 = nn.Linear(self.inner, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.w12(x)
        gate, value = x[..., : self.inner], x[..., self.inner :]
        return self.w3(gate / (1 + torch.exp(-gate)) * value)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, condition: int):
        super().__init__()
        self.norm1 = RMSNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = RMSNorm(width)
        self.mlp = SwiGLU(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(condition, 6 * width))

    def forward(self, x: Tensor, c: Tensor, class_tokens: int) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c)[:, None].chunk(6, -1)
        x = x + gate1 * self.attn(self.norm1(x) * (1 + scale1) + shift1, class_tokens)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class FinalLayer(nn.Module):
    def __init__(self, width: int, condition: int, out: int):
        super().__init__()
        self.norm_final = RMSNorm(width)
        self.linear = nn.Linear(width, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(condition, 2 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c)[:, None].chunk(2, -1)
        return self.linear(self.norm_final(x) * (1 + scale) + shift)


def sincos(width: int, side: int) -> Tensor:
    """Fixed positions, (1, side², width): columns in the first half of the channels, rows in the second."""
    number = torch.arange(side * side, dtype=torch.float64)
    quarter, channels = width // 4, []
    for place in (number % side, number // side):
        angles = [place * 10000 ** (-i / quarter) for i in range(quarter)]
        channels += [angle.sin() for angle in angles] + [angle.cos() for angle in angles]
    return torch.stack(channels, 1)[None].float()


def to_image(tokens: Tensor, channels: int, patch: int) -> Tensor:
    """Token vectors (row in patch, column in patch, channel) → image."""
    batch, count, _ = tokens.shape
    side = math.isqrt(count)
    grid = tokens.reshape(batch, side, side, patch, patch, channels)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, side * patch, side * patch)


class PublicNet(nn.Module):
    """JiT (no ``latent``), JiT+REPA (``repa`` channels), Latent Forcing (``latent`` channels) with one head or experts.

    ``state_dict()`` has the names of the released files. An expert has as many heads as keep the trunk's head width.
    """

    def __init__(
        self,
        *,
        image: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        bottleneck: int,
        classes: int,
        class_tokens: int = 32,
        class_block: int = 4,
        latent: int = 0,
        expert: int = 0,
        repa: int = 0,
    ):
        super().__init__()
        self.patch, self.latent, self.expert, self.repa = patch, latent, expert, repa
        self.class_tokens, self.class_block = class_tokens, class_block
        side = image // patch
        self.pos_embed = nn.Parameter(sincos(width, side), requires_grad=False)
        if class_tokens:
            self.in_context_posemb = nn.Parameter(torch.zeros(1, class_tokens, width))
        if latent:
            self.t_pixel_embedder = TimeEmbedder(width)
            self.t_dino_embedder = TimeEmbedder(width)
            self.pixel_embedder = PatchEmbedder(3, patch, bottleneck, width)
            self.dino_embedder = PatchEmbedder(latent, 1, bottleneck, width)
        else:
            self.t_embedder = TimeEmbedder(width)
            self.x_embedder = PatchEmbedder(3, patch, bottleneck, width)
        self.y_embedder = LabelEmbedder(classes, width)
        self.blocks = nn.ModuleList(Block(width, heads, width) for _ in range(depth))
        pixels = 3 * patch * patch
        if expert:
            expert_heads = expert // (width // heads)
            self.dh_pixel_proj = nn.Linear(width, expert)
            self.dh_dino_proj = nn.Linear(width, expert)
            self.dh_blocks_pixel = nn.ModuleList(Block(expert, expert_heads, width) for _ in range(2))
            self.dh_blocks_dino = nn.ModuleList(Block(expert, expert_heads, width) for _ in range(2))
            self.final_layer_pixel = FinalLayer(expert, width, pixels)
            self.final_layer_dino = FinalLayer(expert, width, latent)
        else:
            self.final_layer = FinalLayer(width, width, pixels + latent)
        if repa:
            self.repa_projection = nn.Sequential(
                nn.Linear(width, 2048), nn.SiLU(), nn.Linear(2048, 2048), nn.SiLU(), nn.Linear(2048, repa)
            )

    def forward(self, z: list[Tensor], t: list[Tensor], y: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Noised streams (pixels first), each one's times (batch,) and labels → clean estimates, REPA tokens."""
        label = self.y_embedder(y)
        if self.latent:
            x = self.pixel_embedder(z[0]) + self.dino_embedder(z[1])
            c = self.t_pixel_embedder(t[0]) + self.t_dino_embedder(t[1]) + label
        else:
            x = self.x_embedder(z[0])
            c = self.t_embedder(t[0]) + label
        x = x + self.pos_embed
        prepended, tapped = 0, None
        for number, block in enumerate(self.blocks):
            if number == self.class_block:
                if self.repa:
                    tapped = self.repa_projection(x)
                if self.class_tokens:
                    extra = label[:, None] + self.in_context_posemb
                    x, prepended = torch.cat([extra, x], 1), self.class_tokens
            x = block(x, c, prepended)
        x = x[:, prepended:]
        if self.expert:
            pixel, dino = self.dh_pixel_proj(x), self.dh_dino_proj(x)
            for block in self.dh_blocks_pixel:
                pixel = block(pixel, c, 0)
            for block in self.dh_blocks_dino:
                dino = block(dino, c, 0)
            pixel, dino = self.final_layer_pixel(pixel, c), self.final_layer_dino(dino, c)
        else:
            out = self.final_layer(x, c)
            pixels = 3 * self.patch * self.patch
            pixel, dino = out[..., :pixels], out[..., pixels:]
        images = [to_image(pixel, 3, self.patch)]
        if self.latent:
            images.append(to_image(dino, self.latent, 1))
        return images, tapped


def randomize(net: PublicNet, seed: int = 0) -> PublicNet:
    """Random weights everywhere, also where training starts from zero, of a size that keeps signals near 1."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name == "pos_embed":
                continue
            noise = torch.randn(weight.shape, generator=draw)
            if "norm" in name:
                weight.copy_(1 + 0.2 * noise)
            elif weight.dim() == 1 or "embedding_table" in name or "posemb" in name:
                weight.copy_(0.2 * noise)
            else:
                weight.copy_(noise / math.sqrt(weight[0].numel()))
    return net.eval()
