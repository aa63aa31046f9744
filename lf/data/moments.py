"""Running mean and variance, merged part by part (Chan, Golub and LeVeque 1979)."""

from typing import NamedTuple

from torch import Tensor


class Merged(NamedTuple):
    """Two parts merged: number of samples, mean, and the terms for merging squared deviations.

    ``delta`` is the difference of the means. The merged sum of squared deviations is the sum of the two, plus
    ``weight · delta²`` (for covariances ``weight · delta deltaᵀ``).
    """

    n: int
    mean: Tensor
    delta: Tensor
    weight: float


def merge(n: int, mean: Tensor | float, more: int, other: Tensor) -> Merged:
    """Merges ``n`` samples of mean ``mean`` with ``more`` samples of mean ``other``."""
    total, delta = n + more, other - mean
    return Merged(total, mean + delta * (more / total), delta, n * more / total)
