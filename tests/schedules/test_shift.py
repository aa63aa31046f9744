"""The time shift, Eq. 4, and the signal-to-noise ratio, Eq. 3."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lf.diffusion import flow

shifts = st.floats(1 / 64, 64)
times = st.floats(0, 1)


@given(times, shifts)
def test_shifting_by_the_reciprocal_undoes_a_shift(t: float, a: float) -> None:
    now = torch.tensor(t, dtype=torch.float64)
    torch.testing.assert_close(flow.shift(flow.shift(now, a), 1 / a), now, rtol=0, atol=1e-12)


@given(times, shifts)
def test_shift_is_equation_4(t: float, a: float) -> None:
    now = torch.tensor(t, dtype=torch.float64)
    assert flow.shift(now, a).item() == pytest.approx(a * t / (1 + (a - 1) * t), rel=1e-9)


@given(st.floats(1e-4, 1e4), st.sampled_from([torch.float32, torch.float64]))
def test_shift_keeps_both_ends_exactly(a: float, dtype: torch.dtype) -> None:
    assert flow.shift(torch.tensor([0.0, 1.0], dtype=dtype), a).tolist() == [0, 1]


@given(times, shifts)
def test_the_derivative_of_shift_is_its_slope(t: float, a: float) -> None:
    now = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(flow.shift(now, a), now)
    torch.testing.assert_close(flow.shift_derivative(now.detach(), a), slope)


@given(st.floats(0, 0.99), st.floats(1 / 8, 8))
def test_scaling_a_stream_is_the_same_as_shifting_its_time(t: float, a: float) -> None:
    now = torch.tensor(t, dtype=torch.float64)
    torch.testing.assert_close(flow.snr(flow.shift(now, a)), flow.snr(now, variance=a**2))


def test_snr_is_the_variance_ratio_of_the_two_parts_of_a_noised_stream() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = 0.7 * torch.randn(2, 100_000, 1, generator=generator), torch.randn(2, 100_000, 1, generator=generator)
    t = torch.tensor([0.2, 0.8])
    signal = flow.interpolate(x, torch.zeros_like(noise), t).var((1, 2))
    rest = flow.interpolate(torch.zeros_like(x), noise, t).var((1, 2))
    torch.testing.assert_close(flow.snr(t, 0.7**2), signal / rest, rtol=0.03, atol=0)
