"""Training densities: Kolmogorov-Smirnov against the formula."""

import pytest
import torch
from scipy import stats

from lf import schedules
from lf.schedules import Times


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
