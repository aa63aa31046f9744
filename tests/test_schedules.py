"""Schedules against the formulas of the method's sections 1 and 2, written out here a second time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lf import flow, schedules
from lf.errors import UserError
from lf.schedules import Schedule, Times
from lf.schedules.conformance import ScheduleConformance

CASES = [
    ("pixel_only", {}),
    ("pixel_only", {"streams": 2, "P_mean": 0.0, "P_std": 1.2}),
    ("pixel_only", {"streams": 3}),
    ("latent_only", {}),
    ("latent_only", {"streams": 3, "D_mean": -0.5}),
    ("cascaded", {}),
    ("cascaded", {"streams": 3, "p_latent": 0.7}),
    ("cascaded", {"beta": 0, "early": 0}),
    ("cascaded", {"latent_max": 0.75, "beta": 1}),
    ("cascaded", {"streams": 3, "latent_max": 0.9}),
    ("shifted", {}),
    ("shifted", {"alpha": 1 / 64}),
    ("shifted", {"alpha": 1}),
    ("shifted", {"streams": 3, "alpha": 64, "p_latent": 0.9}),
    ("offset", {}),
    ("offset", {"offset": -0.4}),
    ("offset", {"offset": 0}),
    ("offset", {"streams": 3, "offset": 0.7}),
    ("offset", {"streams": 3, "offset": -0.2}),
    ("independent", {}),
    ("independent", {"streams": 3, "time_shift": 2}),
]


class TestConformance(ScheduleConformance):
    @pytest.fixture(autouse=True, params=CASES, ids=str)
    def _case(self, request: pytest.FixtureRequest) -> None:
        name, parameters = request.param
        self.schedule = schedules.create(name, **parameters)


def test_the_cases_cover_every_schedule_of_this_package() -> None:
    ours = {name for name in schedules.names() if type(schedules.create(name)).__module__.startswith("lf.")}
    assert ours == {name for name, _ in CASES}


# --- the time shift, Eq. 4, and the signal-to-noise ratio, Eq. 3

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


# --- training densities: Kolmogorov-Smirnov against the formula


def drawn(name: str, n: int = 20_000, **parameters: float) -> Times:
    return schedules.create(name, **parameters).sample(n, generator=torch.Generator().manual_seed(0))


def fits(sample: torch.Tensor, cdf) -> bool:  # noqa: ANN001 (a callable)
    return stats.kstest(sample.double().numpy(), cdf).pvalue > 1e-3


def logit_normal(mean: float, std: float):  # noqa: ANN201 (a callable)
    return lambda t: stats.norm.cdf(stats.logistic.ppf(t), mean, std)


def share_fits(hits: torch.Tensor, share: float) -> bool:
    return stats.binomtest(int(hits.sum()), len(hits), share).pvalue > 1e-3


def test_the_test_itself_tells_nearby_densities_apart() -> None:
    t = drawn("pixel_only").t[:, 0]
    assert not fits(t, logit_normal(-0.75, 0.8)) and not fits(t, logit_normal(-0.8, 0.84))


def test_pixel_only_draws_logit_normal_pixels() -> None:
    assert fits(drawn("pixel_only").t[:, 0], logit_normal(-0.8, 0.8))
    t, weight = drawn("pixel_only", P_mean=0.3, P_std=1.1, streams=2)
    assert fits(t[:, 0], logit_normal(0.3, 1.1))
    assert (t[:, 1] == 0).all() and weight.equal(torch.tensor([1.0, 0.0]).expand(len(t), 2))


def test_latent_only_draws_logit_normal_latents_and_leaves_the_pixels_noise() -> None:
    t, weight = drawn("latent_only", D_mean=-1.0, D_std=0.9)
    assert fits(t[:, 1], logit_normal(-1.0, 0.9))
    assert (t[:, 0] == 0).all() and weight.equal(torch.tensor([0.0, 1.0]).expand(len(t), 2))


@pytest.mark.parametrize("name", ["cascaded", "shifted", "offset"])
@pytest.mark.parametrize("p_latent", [0.3, 0.8])
def test_each_sample_trains_one_stream_a_latent_with_p_latent(name: str, p_latent: float) -> None:
    weight = drawn(name, p_latent=p_latent, streams=3).weight
    assert weight.sort(1).values.equal(torch.tensor([0.0, 0.0, 1.0]).expand(len(weight), 3))
    assert share_fits(weight[:, 0] == 0, p_latent)
    assert share_fits(weight[weight[:, 0] == 0, 1], 0.5)  # latents share alike


@pytest.mark.parametrize("early", [0.1, 1.0])  # early times are of pixel steps alone
def test_cascaded_latent_steps(early: float) -> None:
    t, weight = drawn("cascaded", D_mean=-1.4, D_std=0.9, early=early)
    latent = weight[:, 1] == 1
    assert fits(t[latent, 1], logit_normal(-1.4, 0.9)) and (t[latent, 0] == 0).all()


@pytest.mark.parametrize("early", [0.1, 0.0, 0.5])
def test_cascaded_pixel_steps_mix_in_early_times(early: float) -> None:
    t, weight = drawn("cascaded", early=early)
    base = logit_normal(-0.4, 0.8)
    assert fits(t[weight[:, 0] == 1, 0], lambda x: (1 - early) * base(x) + early * (2 * x).clip(0, 1))


def test_cascaded_pixel_steps_see_latents_with_a_little_noise() -> None:
    t, weight = drawn("cascaded", beta=0.25)
    assert fits(t[weight[:, 0] == 1, 1], stats.uniform(0.75, 0.25).cdf)
    t, weight = drawn("cascaded", beta=0)
    assert (t[weight[:, 0] == 1, 1] == 1).all()


def test_cascaded_over_three_streams_keeps_later_ones_noise_and_earlier_ones_clean() -> None:
    t, weight = drawn("cascaded", streams=3)
    first, second, pixels = (t[weight[:, i] == 1] for i in (1, 2, 0))
    assert (first[:, [0, 2]] == 0).all()
    assert (second[:, 0] == 0).all() and fits(second[:, 1], stats.uniform(0.75, 0.25).cdf)
    assert (pixels[:, 1:] >= 0.75).all()
    assert abs(stats.spearmanr(pixels[:, 1], pixels[:, 2]).statistic) < 0.05  # each with a noise of its own


@pytest.mark.parametrize("alpha", [9.0, 1 / 4])
def test_shifted_trains_on_its_curve(alpha: float) -> None:
    t, weight = drawn("shifted", alpha=alpha)
    latent = weight[:, 1] == 1
    assert fits(t[latent, 1], logit_normal(-1.2, 1.0)) and fits(t[~latent, 0], logit_normal(-0.4, 0.8))
    t_p, t_l = t.double().unbind(1)
    torch.testing.assert_close(t_p[latent], (t_l / alpha / (1 + (1 / alpha - 1) * t_l))[latent], rtol=0, atol=1e-5)
    torch.testing.assert_close(t_l[~latent], (t_p * alpha / (1 + (alpha - 1) * t_p))[~latent], rtol=0, atol=1e-5)


@pytest.mark.parametrize("offset", [0.1, -0.3])
def test_offset_trains_on_its_curve(offset: float) -> None:
    t, weight = drawn("offset", offset=offset)
    latent = weight[:, 1] == 1
    assert fits(t[latent, 1], logit_normal(-1.2, 1.0)) and fits(t[~latent, 0], logit_normal(-0.4, 0.8))
    lead, lag = (1, 0) if offset > 0 else (0, 1)
    o = abs(offset)
    follows = weight[:, lead] == 1
    torch.testing.assert_close(t[follows, lag], ((t[follows, lead] - o) / (1 - o)).clamp_min(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(t[~follows, lead], o + (1 - o) * t[~follows, lag], rtol=0, atol=1e-5)


def test_independent_shifts_uniform_times_of_each_stream() -> None:
    t, weight = drawn("independent")
    for stream in range(2):
        assert fits(t[:, stream], lambda x: 2 * x / (1 + x))  # f_2, the inverse of f_0.5, is the CDF of f_0.5(U)
    assert stats.spearmanr(t[:, 0], t[:, 1]).pvalue > 1e-3 and (weight == 1).all()


def test_the_clip_of_the_velocity_is_a_third_only_for_independent() -> None:
    clips = {name: schedules.create(name).t_clip for name, _ in CASES}
    assert clips.pop("independent") == pytest.approx(1 / 3) and set(clips.values()) == {0.05}


# --- paths


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


def test_over_more_streams_keeps_all_other_parameters() -> None:
    three = schedules.create("shifted", alpha=4, p_latent=0.7).over(3)
    assert three == schedules.create("shifted", alpha=4, p_latent=0.7, streams=3)
    with pytest.raises(UserError, match="1 stream"):
        three.over(1)


def test_the_loss_is_the_weighted_squared_difference_of_velocities() -> None:
    x, x_hat, z = (torch.randn(5, 2, 3, 3) for _ in range(3))
    t, weight = torch.tensor([0.0, 0.3, 0.7, 0.9, 1.0]), torch.rand(5)  # the last two are clipped
    apart = flow.velocity(x, z, t, 0.2) - flow.velocity(x_hat, z, t, 0.2)
    expected = (weight * apart.square().mean((1, 2, 3))).mean()
    torch.testing.assert_close(flow.velocity_loss(x, x_hat, t, weight, 0.2), expected)
