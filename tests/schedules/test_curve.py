"""The one curve of `shifted` and `offset`: a stream is delayed by o_i and then shifted by a_i."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from published_paths import shifted_path
from test_densities import fits, logit_normal

from lf import schedules
from lf.core.errors import UserError

NAMES = ["pixels", "tiny", "small", "grey"]
shifts, delays = st.floats(1 / 64, 64), st.floats(0, 0.95)


def f(a: float, t: float) -> float:
    return a * t / (1 + (a - 1) * t)


def expected(u: float, a: float, o: float) -> float:
    return f(a, max((u - o) / (1 - o), 0))


@given(st.floats(0, 1), st.integers(2, 4), st.data())
def test_it_is_the_formula_with_values_by_name(u: float, k: int, data: st.DataObject) -> None:
    a = data.draw(st.lists(shifts, min_size=k, max_size=k))
    o = data.draw(st.lists(delays, min_size=k, max_size=k))
    names = NAMES[:k]
    schedule = schedules.create(
        "shifted", shift=dict(zip(names, a, strict=True)), delay=dict(zip(names, o, strict=True))
    ).over(names)
    found = schedule.curve(torch.tensor(u, dtype=torch.float64)).tolist()
    assert found == pytest.approx([expected(u, *pair) for pair in zip(a, o, strict=True)], abs=1e-9)
    ends = schedule.curve(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends.tolist() == [[0.0] * k, [1.0] * k]
    path = schedule.path(7)
    assert (path[0] == 0).all() and (path[-1] == 1).all() and (path.diff(dim=0) >= 0).all()


def test_offset_0_2_with_alpha_4_is_the_formula() -> None:
    schedule = schedules.create("shifted", alpha=4, offset=0.2)
    for u in torch.linspace(0, 1, 101, dtype=torch.float64):
        pixels, latent = schedule.curve(u).tolist()
        assert abs(pixels - expected(u.item(), 0.5, 0.2)) < 1e-12 and abs(latent - expected(u.item(), 2, 0)) < 1e-12
        for stream, (a, o) in enumerate(((0.5, 0.2), (2, 0))):
            assert abs(schedule.inverse(u, stream).item() - (o + (1 - o) * f(1 / a, u.item()))) < 1e-12


@given(st.floats(1 / 64, 64), st.floats(-0.9, 0.9), st.integers(1, 40))
def test_its_path_is_spread_along_both_streams_as_in_the_public_code(alpha: float, offset: float, steps: int) -> None:
    path = schedules.create("shifted", alpha=alpha, offset=offset).path(steps)
    plain = torch.tensor(shifted_path(steps, alpha, offset), dtype=torch.float64)
    torch.testing.assert_close(path, plain, rtol=0, atol=1e-9)


def test_a_positive_offset_lets_the_latents_lead_and_a_negative_one_the_pixels() -> None:
    for k in (2, 3, 4):
        first, last = (
            schedules.create("shifted", streams=k, alpha=1, offset=0.5),
            schedules.create("shifted", streams=k, alpha=1, offset=-0.5),
        )
        u = torch.tensor(0.4, dtype=torch.float64)
        assert first.curve(u)[0] == 0 and first.curve(u)[1] == pytest.approx(0.4)
        assert last.curve(u)[1] == 0 and last.curve(u)[0] == pytest.approx(0.4)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_it_is_trained_on_its_curve(k: int) -> None:
    schedule = schedules.create("shifted", streams=k, alpha=4, offset=0.2, p_latent=0.6)
    t, weight = schedule.sample(20_000, generator=torch.Generator().manual_seed(0))
    for stream in range(k):
        own = weight[:, stream] == 1
        assert fits(t[own, stream], logit_normal(-0.4, 0.8) if not stream else logit_normal(-1.2, 1.0))
        on_curve = schedule.curve(schedule.inverse(t[own, stream].double(), stream))
        torch.testing.assert_close(t[own].double(), on_curve, rtol=0, atol=1e-4)


def test_alpha_is_split_and_a_value_by_name_goes_over_it() -> None:
    schedule = schedules.create("shifted", alpha=9, shift={"small": 7}).over(NAMES[:3])
    u = torch.tensor(0.3, dtype=torch.float64)
    assert schedule.curve(u).tolist() == pytest.approx([f(1 / 3, 0.3), f(3, 0.3), f(7, 0.3)])
    assert math.isclose(schedules.create("shifted", alpha=9, streams=3).curve(u)[2].item(), 0.3)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("shifted", {"shift": {"tiny": 0}}), ("shifted", {"delay": {"tiny": 1}}), ("offset", {"shift": {"tiny": 2}}),
     ("shifted", {"offset": 1}), ("offset", {"delay": {"tinny": 0.1}}), ("shifted", {"shift": {"tinny": 2}})],
    ids=str,
)  # fmt: skip
def test_a_bad_value_is_one_line(name: str, parameters: dict) -> None:
    with pytest.raises(UserError, match=name) as error:
        schedules.create(name, **parameters).over(NAMES[:2])
    assert "\n" not in str(error.value)
