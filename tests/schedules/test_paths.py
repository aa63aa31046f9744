"""The paths of sampling are the formulas of the table, and run through all streams."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lf import schedules
from lf.core.errors import UserError
from lf.schedules import Schedule

times = st.floats(0, 1)


@given(times, st.floats(1 / 64, 64), st.floats(-0.9, 0.9))
def test_curves_are_the_formulas_of_the_table(u: float, alpha: float, offset: float) -> None:
    def f(a: float) -> float:
        return a * u / (1 + (a - 1) * u)

    late = max((u - abs(offset)) / (1 - abs(offset)), 0)
    expected = {
        schedules.create("pixel_only"): (u,),
        schedules.create("latent_only"): (0, u),
        schedules.create("cascaded"): (max(2 * u - 1, 0), min(2 * u, 1)),
        schedules.create("shifted", alpha=alpha): (f(alpha**-0.5), f(alpha**0.5)),
        schedules.create("offset", offset=offset): (late, u) if offset >= 0 else (u, late),
    }
    for schedule, point in expected.items():
        assert schedule.curve(torch.tensor(u, dtype=torch.float64)).tolist() == pytest.approx(point, abs=1e-9)


alphas = st.floats(1 / 64, 64)
counts = st.integers(1, 60)
streams = st.integers(2, 3)


def follows_a_good_path(schedule: Schedule, steps: int) -> torch.Tensor:
    path = schedule.path(steps)
    assert path.shape == (steps + 1, schedule.streams)
    assert (path[0] == 0).all() and (path[-1] == 1).all() and (path.diff(dim=0) >= 0).all()
    return path.diff(dim=0)


@given(alphas, counts, streams)
def test_shifted_spreads_its_points_along_all_streams(alpha: float, steps: int, k: int) -> None:
    # Of k points a step at most k lie on one stream's own grid: no stream takes a step longer than k / steps.
    moved = follows_a_good_path(schedules.create("shifted", alpha=alpha, streams=k), steps)
    assert moved.max() <= k / steps + 1e-9 and (moved > 0).all()


@given(st.floats(-0.95, 0.95), counts, streams)
def test_offset_spreads_its_points_along_all_streams(offset: float, steps: int, k: int) -> None:
    moved = follows_a_good_path(schedules.create("offset", offset=offset, streams=k), steps)
    assert moved.max() <= k / steps + 1e-9 and (moved > 0).any(1).all()


@given(counts, streams)
def test_cascaded_moves_the_latents_in_their_order_and_the_pixels_last(share: int, k: int) -> None:
    steps = k * share
    moved = follows_a_good_path(schedules.create("cascaded", streams=k), steps)
    order = [*range(1, k), 0]
    for place, stream in enumerate(order):
        own = moved[place * share : (place + 1) * share, stream]
        assert (own > 0).all() and own.sum().item() == pytest.approx(1)


def test_cascaded_moves_one_stream_a_step_whatever_the_number_of_steps() -> None:
    for steps in range(2, 300, 2):
        assert ((schedules.create("cascaded").path(steps).diff(dim=0) > 0).sum(1) == 1).all(), steps


def test_cascaded_path_is_two_equal_halves() -> None:
    path = schedules.create("cascaded", latent_max=0.8).path(8).tolist()
    ramp = (0, 0.25, 0.5, 0.75, 1)
    assert path == [pytest.approx(p) for p in [(0, 0.8 * u) for u in ramp] + [(u, 0.8) for u in ramp[1:]]]


@pytest.mark.parametrize("steps", [1, 7, 49])
def test_cascaded_refuses_steps_that_cannot_be_halved(steps: int) -> None:
    with pytest.raises(UserError, match=f"steps={steps}.* {steps + 1}"):
        schedules.create("cascaded").path(steps)


@given(alphas, st.integers(1, 30))
def test_shifted_path_equals_its_definition_built_by_brute_force(alpha: float, steps: int) -> None:
    def f(a: float, t: float) -> float:
        return a * t / (1 + (a - 1) * t)

    def solve(a: float, t: float) -> float:
        """The u at which f_a(u) = t, by bisection: it knows nothing of an inverse."""
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if f(a, middle) < t else (low, middle)
        return high

    pixel, latent = alpha**-0.5, alpha**0.5
    union = sorted(solve(a, i / steps) for a in (pixel, latent) for i in range(steps + 1))
    expected = torch.tensor([[f(pixel, u), f(latent, u)] for u in union[::2]], dtype=torch.float64)
    torch.testing.assert_close(schedules.create("shifted", alpha=alpha).path(steps), expected, rtol=0, atol=1e-9)
