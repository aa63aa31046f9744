"""Orders and values by stream name, over 2, 3 and 4 streams."""

from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from test_densities import fits, logit_normal, share_fits

from lf import schedules
from lf.core.errors import UserError
from lf.schedules import Schedule

NAMES = ["pixels", "tiny", "small", "grey"]


def over(k: int, name: str = "cascaded", **parameters: object) -> Schedule:
    return schedules.create(name, **parameters).over(NAMES[:k])


@given(st.integers(2, 4), st.data(), st.integers(1, 20))
def test_streams_move_in_their_order_and_those_of_a_group_together(k: int, data: st.DataObject, share: int) -> None:
    names = data.draw(st.permutations(NAMES[:k]))
    cuts = sorted(data.draw(st.sets(st.integers(1, k - 1))))
    groups = [names[a:b] for a, b in zip([0, *cuts], [*cuts, k], strict=True)]
    schedule = over(k, order=groups)
    path = schedule.path(share * len(groups))
    assert (path[0] == 0).all() and (path[-1] == 1).all()
    ramp = torch.arange(share + 1).double() / share
    for stage, group in enumerate(groups):
        part = path[stage * share : (stage + 1) * share + 1]
        for stream, name in enumerate(NAMES[:k]):
            done = any(name in earlier for earlier in groups[:stage])
            expected = ramp if name in group else torch.full_like(ramp, float(done))
            torch.testing.assert_close(part[:, stream], expected, rtol=0, atol=1e-12)
    again = type(schedule)(**schedule.model_dump())
    assert again == schedule and again.path(len(groups)).equal(schedule.path(len(groups)))


@pytest.mark.parametrize("order", [list(order) for order in permutations(NAMES[:3])])
def test_training_sees_earlier_streams_almost_clean_and_later_ones_as_noise(order: list[str]) -> None:
    t, weight = over(3, order=order).sample(20_000, generator=torch.Generator().manual_seed(0))
    for place, name in enumerate(order):
        stream = NAMES.index(name)
        own = t[weight[:, stream] == 1]
        for other_place, other in enumerate(order):
            seen = own[:, NAMES.index(other)]
            if other_place < place:
                assert fits(seen, stats.uniform(0.75, 0.25).cdf)
            elif other_place > place:
                assert (seen == 0).all()
        if name != "pixels":
            assert fits(own[:, stream], logit_normal(-1.2, 1.0))


def test_a_group_is_trained_at_one_time() -> None:
    t, weight = over(3, order=[["tiny", "small"], "pixels"]).sample(2000, generator=torch.Generator().manual_seed(0))
    latent = weight[:, 0] == 0
    assert t[latent, 1].equal(t[latent, 2]) and (t[latent, 0] == 0).all() and (t[~latent, 1:] >= 0.75).all()


@pytest.mark.parametrize("name", ["cascaded", "shifted", "offset", "points"])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_mean_deviation_and_share_by_name(name: str, k: int) -> None:
    drawn = over(k, name, mean={"tiny": 0.4, "pixels": 0.1}, std={"tiny": 0.6}, share={"tiny": 0.3}, **_plain(name))
    t, weight = drawn.sample(30_000, generator=torch.Generator().manual_seed(k))
    own = [t[weight[:, i] == 1, i] for i in range(k)]
    assert share_fits(weight[:, 1] == 1, 0.3) and share_fits(weight[:, 0] == 1, 0.7 if k == 2 else _rest(k))
    assert fits(own[1], logit_normal(0.4, 0.6)) and fits(own[0], logit_normal(0.1, 0.8))
    for other in own[2:]:
        assert fits(other, logit_normal(-1.2, 1.0))


def _plain(name: str) -> dict:
    return {"early": 0} if name == "cascaded" else {}


def _rest(k: int) -> float:
    """Of what is left, pixels and the other latents get what p_latent = 0.4 says: 0.6 to 0.4 / (k-1) each."""
    return 0.7 * 0.6 / (0.6 + (k - 2) * 0.4 / (k - 1))


def test_shares_of_all_streams_are_taken_as_they_are() -> None:
    weight = over(3, share={"pixels": 0.0, "tiny": 0.25, "small": 0.75}).sample(20_000).weight
    assert not weight[:, 0].any() and share_fits(weight[:, 1] == 1, 0.25)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            {"order": ["tiny", "pixel"]},
            "cascaded: order=.*: no stream 'pixel'; allowed: pixels, small, tiny; did you mean",
        ),
        ({"order": ["tiny", "pixels"]}, "order=.*: lacks small"),
        ({"order": ["tiny", ["small", "tiny"], "pixels"]}, "order=.*: has 'tiny' twice"),
        ({"mean": {"tinny": 0}}, "mean.tinny: no such stream; .*did you mean 'tiny'"),
        ({"std": {"Pixels": 1}}, "std.Pixels: no such stream"),
        ({"share": {"tiny": 0.7, "small": 0.5}}, "share=.*: the shares must add up to 1"),
        ({"share": {"tiny": 0.2, "small": 0.2, "pixels": 0.2}}, "share=.*: the shares must add up to 1"),
    ],
    ids=str,
)
def test_a_wrong_name_or_share_is_one_line(parameters: dict, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        over(3, **parameters)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "parameters",
    [{"order": "tiny"}, {"order": [1, 2]}, {"mean": -0.4}, {"std": {"tiny": 0}}, {"share": {"tiny": 2}}],
    ids=str,
)
def test_a_value_of_another_kind_is_one_line(parameters: dict) -> None:
    with pytest.raises(UserError, match="cascaded") as error:
        schedules.create("cascaded", **parameters)
    assert "\n" not in str(error.value)


def test_without_names_values_by_name_cannot_be_used() -> None:
    schedule = schedules.create("cascaded", order=["pixels", "tiny"])
    with pytest.raises(UserError, match="use over"):
        schedule.sample(3)
    assert schedule.over(["pixels", "tiny"]).path(2).tolist() == [[0, 0], [1, 0], [1, 1]]


def test_steps_are_a_multiple_of_the_stages() -> None:
    with pytest.raises(UserError, match="steps=3: .* 2 stages .* 4"):
        over(3, order=[["tiny", "small"], "pixels"]).path(3)
