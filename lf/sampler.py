"""Euler and Heun along any path through the cube of times, on one screen."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Velocity = Callable[[list[Tensor], Sequence[float], Sequence[bool]], list[Tensor | None]]
"""(noised streams, their times, which streams move) → velocities, None where the stream stands still."""


@torch.no_grad()
def sample(
    velocity: Velocity,
    noise: Sequence[Tensor],
    path: Tensor,
    solver: str = "heun",
    again: tuple[float, Sequence[Tensor]] | None = None,
) -> list[Tensor]:
    """Carries every stream from noise to data.

    A Heun step averages the slopes at both of its ends. ``heun`` makes the path's last step an Euler step, as JiT and
    LF do; ``heun_per_stream`` does so in each stream's last step, if it ends clean: the slope at ``t = 1`` is not
    defined, and where ``heun`` asks for one in the middle of a path it hangs on ``t_clip``.

    Args:
        velocity: the model.
        noise: one ``(B, C, H, W)`` a stream.
        path: times ``(steps+1, streams)``, non-decreasing.
        solver: ``heun``, ``heun_per_stream`` or ``euler``.
        again: ``(share, noise)`` mixes fresh noise into each stream that is done before the others:
            ``z ← (1-share) z + share noise``, and the model is told ``(1-share) t`` (LF Table 7).
    """
    z, times = list(noise), path.tolist()
    last, done = times[-1], [False] * len(noise)
    for step, (now, then) in enumerate(zip(times[:-1], times[1:], strict=True), 1):
        dt = [b - a for a, b in zip(now, then, strict=True)]
        moves = [d > 0 for d in dt]
        kept = [1 - again[0] if again and d else 1.0 for d in done]
        told, told_then = ([t * k for t, k in zip(ts, kept, strict=True)] for ts in (now, then))
        slope = velocity(z, told, moves)
        ahead = [_step(*part) for part in zip(z, slope, dt, strict=True)]
        if solver == "heun":
            corrected = [m and step < len(path) - 1 for m in moves]
        else:
            corrected = [m and t < 1 and solver == "heun_per_stream" for m, t in zip(moves, then, strict=True)]
        if any(corrected):
            slope_ahead = velocity(ahead, told_then, corrected)
            for i, other in enumerate(slope_ahead):
                if corrected[i]:
                    ahead[i] = _step(z[i], (slope[i] + other) / 2, dt[i])  # type: ignore[operator]
        z = ahead
        for i in range(len(z)):
            if again and not done[i] and then[i] == last[i] and then != last:
                done[i] = True
                z[i] = (1 - again[0]) * z[i] + again[0] * again[1][i]
    return z


def _step(z: Tensor, slope: Tensor | None, dt: float) -> Tensor:
    return z if slope is None else z + dt * slope
