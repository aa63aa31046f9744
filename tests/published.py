"""The public JiT and Latent Forcing networks, samplers and checkpoint files once more, plainly, to check `lf` against.

Nothing here imports `lf`: formulas and key names are those of the papers and of the released files, in the plainest
form that runs. Sizes are free. Streams are called ``pixel`` and ``dino``, as the files call them; t = 1 is clean.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


# ------------------------------------------------------------------------------------------------------ the paths
# A path is a list of (t_pixel, t_dino), from all noise to all clean; JiT's has t_pixel alone.


def f_shift(t: float, a: float) -> float:
    return a * t / (1 + (a - 1) * t)


def pixel_only_path(steps: int) -> list[tuple[float, ...]]:
    return [(n / steps,) for n in range(steps + 1)]


def cascaded_path(
    steps: int, latent_max: float = 1.0, shift_pixel: float = 1.0, shift_dino: float = 1.0
) -> list[tuple[float, ...]]:
    half = steps // 2
    first = [(0.0, latent_max * n / half) for n in range(half)]
    second = [(n / half, latent_max) for n in range(half + 1)]
    return [(f_shift(p, shift_pixel), f_shift(d, shift_dino)) for p, d in first + second]


def spread_path(steps: int, time: list[Callable], inverse: list[Callable]) -> list[tuple[float, ...]]:
    """Both streams' own equal steps as global times, in order, every second kept."""
    u = sorted(back(n / steps) for back in inverse for n in range(steps + 1))[::2]
    return [tuple(f(now) for f in time) for now in u]


def shifted_path(steps: int, alpha: float) -> list[tuple[float, ...]]:
    root = math.sqrt(alpha)
    return spread_path(
        steps,
        [lambda u: f_shift(u, 1 / root), lambda u: f_shift(u, root)],
        [lambda t: f_shift(t, root), lambda t: f_shift(t, 1 / root)],
    )


def offset_path(steps: int, offset: float) -> list[tuple[float, ...]]:
    """``offset > 0``: the latent leads."""
    o = abs(offset)
    lead: tuple[Callable, Callable] = (lambda u: u, lambda t: t)
    lag: tuple[Callable, Callable] = (lambda u: max((u - o) / (1 - o), 0.0), lambda t: o + (1 - o) * t)
    pixel, dino = (lag, lead) if offset > 0 else (lead, lag)
    return spread_path(steps, [pixel[0], dino[0]], [pixel[1], dino[1]])


# ---------------------------------------------------------------------------------------------------- the sampler


def sample(
    net: PublicNet,
    noise: list[Tensor],
    y: Tensor,
    path: list[tuple[float, ...]],
    *,
    null: int,
    kind: str = "none",
    scales: tuple[float, ...] = (1.0, 1.0),
    intervals: tuple[tuple[float, float], ...] = ((0.0, 1.0), (0.0, 1.0)),
    guide: PublicNet | None = None,
    t_clip: float = 0.05,
) -> list[list[Tensor]]:
    """Heun on all steps of the path but its last, which is Euler's; the streams after every step.

    ``kind``: none, cfg (the same network, null label), autoguidance (``guide``, null label), or cfg_then_autoguidance
    (cfg in steps that move the latent).
    """

    def velocities(model: PublicNet, z: list[Tensor], t: tuple[float, ...], labels: Tensor) -> list[Tensor]:
        times = [torch.full((len(labels),), now) for now in t]
        x_hat = model(z, times, labels)[0]
        return [(x - a) / max(1 - now, t_clip) for x, a, now in zip(x_hat, z, t, strict=True)]

    def guided(z: list[Tensor], t: tuple[float, ...], latent_moves: bool) -> list[Tensor]:
        v_c = velocities(net, z, t, y)
        if kind == "none":
            return v_c
        weak = net if kind == "cfg" or (kind == "cfg_then_autoguidance" and latent_moves) else guide
        v_u = velocities(weak, z, t, torch.full_like(y, null))
        out = []
        for c, u, s, (low, high), now in zip(v_c, v_u, scales, intervals, t, strict=False):
            active = now < high and (low == 0 or now > low)
            out.append(u + s * (c - u) if active else c)
        return out

    z, trajectory = list(noise), []
    with torch.no_grad():
        for number in range(len(path) - 1):
            now, then = path[number], path[number + 1]
            moves = len(now) > 1 and then[1] > now[1]
            v = guided(z, now, moves)
            step = [a + (after - before) * s for a, s, before, after in zip(z, v, now, then, strict=True)]
            if number < len(path) - 2:
                w = guided(step, then, moves)
                v = [(a + b) / 2 for a, b in zip(v, w, strict=True)]
                step = [a + (after - before) * s for a, s, before, after in zip(z, v, now, then, strict=True)]
            z = step
            trajectory.append(z)
    return trajectory


# --------------------------------------------------------------------------------------------------- the loss, files


def loss(
    net: PublicNet, x: list[Tensor], noise: list[Tensor], t: Tensor, weight: Tensor, y: Tensor, *,
    lambdas: tuple[float, ...], t_clip: float, repa: tuple[float, Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """``Σ_i λ_i mean_batch(w_i mean((v_i - v̂_i)²))``, with ``repa`` plus its λ times mean(1 - cos)."""
    batch, streams = t.shape
    z = []
    for i in range(streams):
        z.append(torch.stack([t[b, i] * x[i][b] + (1 - t[b, i]) * noise[i][b] for b in range(batch)]))
    x_hat, tapped = net(z, [t[:, i] for i in range(streams)], y)
    total = torch.zeros(())
    for i in range(streams):
        for b in range(batch):
            bound = max(1 - t[b, i].item(), t_clip)
            v, v_hat = (x[i][b] - z[i][b]) / bound, (x_hat[i][b] - z[i][b]) / bound
            total = total + lambdas[i] * weight[b, i] * ((v - v_hat) ** 2).mean() / batch
    if repa is not None:
        target = repa[1].flatten(2).transpose(1, 2)
        cosine = (tapped * target).sum(-1) / (tapped.norm(dim=-1) * target.norm(dim=-1))
        total = total + repa[0] * (1 - cosine).mean()
    return total


def args_of(**given: Any) -> argparse.Namespace:
    """The training's command line as the files keep it (field names of JiT's main_jit.py), with changes."""
    fields = {
        "model": "JiT-B/16", "img_size": 256, "attn_dropout": 0.0, "proj_dropout": 0.0, "epochs": 200,
        "warmup_epochs": 5, "batch_size": 128, "lr": 2e-4, "blr": 5e-5, "min_lr": 0.0, "lr_schedule": "constant",
        "weight_decay": 0.0, "ema_decay1": 0.9999, "ema_decay2": 0.9996, "P_mean": -0.8, "P_std": 0.8,
        "noise_scale": 1.0, "t_eps": 0.05, "label_drop_prob": 0.1, "seed": 0, "class_num": 1000,
        "sampling_method": "heun", "num_sampling_steps": 50, "cfg": 1.0, "interval_min": 0.0, "interval_max": 1.0,
    }  # fmt: skip
    return argparse.Namespace(**fields | given)


def write_checkpoint(
    file: Path,
    raw: PublicNet,
    ema1: PublicNet,
    ema2: PublicNet,
    args: argparse.Namespace,
    *,
    epoch: int = 3,
    encoder: nn.Module | None = None,
    guide: PublicNet | None = None,
) -> None:
    """A released file: whole state dicts of the training module, three times, with optimizer, epoch and arguments."""

    def whole(net: PublicNet) -> dict[str, Tensor]:
        module = nn.ModuleDict({"net": net})
        if encoder is not None:
            module["dino"] = encoder
        if guide is not None:
            module["ag_net"] = guide
        return module.state_dict()

    weights = [p for p in raw.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, betas=(0.9, 0.95), weight_decay=0)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    for _ in range(7):
        optimizer.step()
    torch.save(
        {
            "model": whole(raw),
            "model_ema1": whole(ema1),
            "model_ema2": whole(ema2),
            "optimizer": optimizer.state_dict(),
            "epoch": epoch,
            "args": args,
        },
        file,
    )
