"""The flow that every stream follows, one formula per function.

The direction of time is the same everywhere in this project: ``t = 1`` is clean data, ``t = 0`` is noise.
LF = Latent Forcing (arXiv 2602.11401), JiT = arXiv 2511.13720.
"""

from torch import Tensor
from torch.nn import functional as F


def shift(t: Tensor, a: float) -> Tensor:
    """Time shift ``f_a(t) = a t / (1 + (a-1) t)`` (LF Eq. 4), written so that 1 maps to 1 exactly.

    Scaling a stream by ``a`` is the same as shifting its time by ``f_a``. The inverse of
    ``f_a`` is ``f_{1/a}``; 0 and 1 are fixed points.

    Args:
        t: times in [0, 1], any shape.
        a: shift, > 0; above 1 the stream is cleaner at the same ``t``.

    Returns:
        Shifted times in [0, 1], the shape of ``t``.
    """
    return a * t / (a * t + (1 - t))


def shift_derivative(t: Tensor, a: float) -> Tensor:
    """Derivative of `shift` (LF Eq. 4): ``f_a'(t) = a / (1 + (a-1) t)^2``. Arguments as in `shift`."""
    return a / (a * t + (1 - t)).square()


def snr(t: Tensor, variance: float = 1.0) -> Tensor:
    """Signal-to-noise ratio ``t^2 Var[x] / (1-t)^2`` of a stream of ``variance`` at ``t`` in [0, 1] (LF Eq. 3)."""
    return t.square() * variance / (1 - t).square()


def interpolate(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Noised stream ``z = t x + (1-t) e`` (JiT).

    Args:
        x: clean stream, ``(B, ...)``.
        noise: Gaussian noise of the same shape.
        t: times ``(B,)`` in [0, 1].
    """
    t = expand(t, x)
    return t * x + (1 - t) * noise


def velocity(x: Tensor, z: Tensor, t: Tensor, t_clip: float) -> Tensor:
    """Velocity ``v = (x - z) / max(1-t, t_clip)`` of a clean stream or its estimate ``x`` (JiT).

    Args:
        x: clean or predicted stream, ``(B, ...)``.
        z: noised stream of the same shape.
        t: times ``(B,)`` in [0, 1].
        t_clip: in (0, 1]; keeps the division finite at ``t = 1``.
    """
    return (x - z) / (1 - expand(t, x)).clamp_min(t_clip)


def velocity_loss(x: Tensor, x_hat: Tensor, t: Tensor, weight: Tensor, t_clip: float) -> Tensor:
    """``mean_batch(w · mean((v - v_hat)^2))`` of one stream, a scalar (LF and JiT: x-prediction, v-loss).

    ``v - v_hat = (x - x_hat) / max(1-t, t_clip)``: the noised stream cancels, and the divisor is a factor of the mean.

    Args:
        x, x_hat: clean and predicted stream, ``(B, ...)``.
        t: times ``(B,)``.
        weight: loss weight of each sample ``(B,)``, >= 0.
        t_clip: see ``velocity``.
    """
    error = F.mse_loss(x_hat, x, reduction="none").flatten(1).mean(1)
    return (weight / (1 - t).clamp_min(t_clip).square() * error).mean()


def expand(t: Tensor, like: Tensor) -> Tensor:
    """``(B,)`` → ``(B, 1, 1, ...)`` with as many dimensions as ``like``."""
    return t.to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))
