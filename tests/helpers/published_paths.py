"""The public paths of sampling, samplers and losses once more, plainly: see `published`, whose network they take."""

import math
from collections.abc import Callable

import torch
from published import PublicNet
from torch import Tensor

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


def shifted_path(steps: int, alpha: float, offset: float = 0.0) -> list[tuple[float, ...]]:
    """``offset > 0``: the latent leads. A stream is delayed, then shifted."""
    root = math.sqrt(alpha)

    def time(a: float, o: float) -> tuple[Callable, Callable]:
        return lambda u: f_shift(max((u - o) / (1 - o), 0.0), a), lambda t: o + (1 - o) * f_shift(t, 1 / a)

    pixel, dino = time(1 / root, max(offset, 0.0)), time(root, max(-offset, 0.0))
    return spread_path(steps, [pixel[0], dino[0]], [pixel[1], dino[1]])


def offset_path(steps: int, offset: float) -> list[tuple[float, ...]]:
    return shifted_path(steps, 1.0, offset)


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
    switch: float | None = None,
    t_clip: float = 0.05,
) -> list[list[Tensor]]:
    """Heun on all steps of the path but its last, which is Euler's; the streams after every step.

    ``kind``: none, cfg (the same network, null label), autoguidance (``guide``, null label), or cfg_then_autoguidance
    (cfg in steps that move the latent; with ``switch``, at times of the latent below it).
    """

    def velocities(model: PublicNet, z: list[Tensor], t: tuple[float, ...], labels: Tensor) -> list[Tensor]:
        times = [torch.full((len(labels),), now) for now in t]
        x_hat = model(z, times, labels)[0]
        return [(x - a) / max(1 - now, t_clip) for x, a, now in zip(x_hat, z, t, strict=True)]

    def guided(z: list[Tensor], t: tuple[float, ...], latent_moves: bool) -> list[Tensor]:
        v_c = velocities(net, z, t, y)
        if kind == "none":
            return v_c
        early = latent_moves if switch is None else t[1] < switch
        weak = net if kind == "cfg" or (kind == "cfg_then_autoguidance" and early) else guide
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
