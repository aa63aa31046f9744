"""Euler and Heun solvers along any path through the cube of times."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Velocity = Callable[[list[Tensor], Sequence[float], Sequence[bool]], list[Tensor | None]]
"""(noised streams, their times, which streams move) → velocities; None for streams that do not move."""


@torch.no_grad()
def sample(
    velocity: Velocity,
    noise: Sequence[Tensor],
    path: Tensor,
    solver: str = "heun",
    renoise: tuple[float, Sequence[Tensor | None]] | None = None,
) -> list[Tensor]:
    """Integrates every stream from noise to data.

    A Heun step averages the velocities at both of its ends. The velocity at ``t = 1`` is not defined. ``heun`` makes
    the path's last step an Euler step, as JiT and LF do; where a stream reaches 1 earlier, its velocity there depends
    on ``t_clip``. ``heun_per_stream`` makes the last step of each stream an Euler step, if it ends at 1.

    Args:
        velocity: the model's velocity.
        noise: one ``(B, C, H, W)`` per stream.
        path: times ``(steps+1, streams)``, non-decreasing.
        solver: ``heun``, ``heun_per_stream`` or ``euler``.
        renoise: ``(share, noise)``: mixes fresh noise into each stream that moved and is finished before the last step,
            ``z ← (1-share) z + share noise``, whose time for the model is then ``(1-share) t`` (LF Table 7). A stream
            without noise (None) is left as it is.

    Returns:
        The streams at the end of the path, one ``(B, C, H, W)`` per stream.
    """
    z, times = list(noise), path.tolist()
    first, last, done = times[0], times[-1], [False] * len(noise)
    for step, (now, then) in enumerate(zip(times[:-1], times[1:], strict=True), 1):
        dt = [b - a for a, b in zip(now, then, strict=True)]
        moves = [d > 0 for d in dt]
        kept = [1 - renoise[0] if renoise and d else 1.0 for d in done]
        t_model, t_model_then = ([t * k for t, k in zip(ts, kept, strict=True)] for ts in (now, then))
        slope = velocity(z, t_model, moves)
        ahead = [_step(*part) for part in zip(z, slope, dt, strict=True)]
        if solver == "heun":
            corrected = [m and step < len(path) - 1 for m in moves]
        else:
            corrected = [m and t < 1 and solver == "heun_per_stream" for m, t in zip(moves, then, strict=True)]
        if any(corrected):
            slope_ahead = velocity(ahead, t_model_then, corrected)
            for i, other in enumerate(slope_ahead):
                if corrected[i]:
                    ahead[i] = _step(z[i], (slope[i] + other) / 2, dt[i])  # type: ignore[operator]
        z = ahead
        for i in range(len(z)):
            fresh = renoise[1][i] if renoise else None
            if renoise and fresh is not None and not done[i] and first[i] < then[i] == last[i] and then != last:
                done[i] = True
                z[i] = (1 - renoise[0]) * z[i] + renoise[0] * fresh
    return z


def _step(z: Tensor, slope: Tensor | None, dt: float) -> Tensor:
    return z if slope is None else z + dt * slope
