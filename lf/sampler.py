"""Euler and Heun along any path through the cube of times, on one screen."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Velocity = Callable[[list[Tensor], Sequence[float], Sequence[bool]], list[Tensor | None]]
"""(noised streams, their times, which streams move) → velocities, None where the stream stands still."""


@torch.no_grad()
def sample(velocity: Velocity, noise: Sequence[Tensor], path: Tensor, solver: str = "heun") -> list[Tensor]:
    """Carries every stream from noise to data (as JiT: Heun with a last Euler step).

    A Heun step averages the slopes at both of its ends. A stream that arrives at ``t = 1`` within a step takes an
    Euler step, since its slope there is not defined; a pass that only such streams would need is not run.

    Args:
        velocity: the model.
        noise: one ``(B, C, H, W)`` a stream.
        path: times ``(steps+1, streams)``, non-decreasing.
        solver: ``heun`` or ``euler``.
    """
    z = list(noise)
    times = path.tolist()
    for now, then in zip(times[:-1], times[1:], strict=True):
        dt = [b - a for a, b in zip(now, then, strict=True)]
        moves = [d > 0 for d in dt]
        slope = velocity(z, now, moves)
        ahead = [_step(*part) for part in zip(z, slope, dt, strict=True)]
        corrected = [m and b < 1 and solver == "heun" for m, b in zip(moves, then, strict=True)]
        if any(corrected):
            slope_ahead = velocity(ahead, then, corrected)
            for i, again in enumerate(slope_ahead):
                if corrected[i]:
                    ahead[i] = _step(z[i], (slope[i] + again) / 2, dt[i])  # type: ignore[operator]
        z = ahead
    return z


def _step(z: Tensor, slope: Tensor | None, dt: float) -> Tensor:
    return z if slope is None else z + dt * slope
