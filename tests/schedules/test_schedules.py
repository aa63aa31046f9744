"""Every schedule keeps its contract, at several parameters."""

from typing import Literal

import pytest
import torch

from lf import schedules
from lf.core.errors import UserError
from lf.diffusion import flow
from lf.schedules import Schedule, Times
from lf.schedules.conformance import ScheduleConformance

THREE, FOUR = ["pixels", "tiny", "small"], ["pixels", "tiny", "small", "grey"]
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
    ("cascaded", {"names": ["pixels", "tiny"], "order": ["pixels", "tiny"], "early": 0.5}),
    ("cascaded", {"streams": 3, "names": THREE, "order": [["tiny", "small"], "pixels"], "latent_max": 0.9}),
    ("cascaded", {"streams": 3, "names": THREE, "order": ["small", "pixels", "tiny"], "mean": {"small": 0.3}}),
    ("cascaded", {"streams": 4, "names": FOUR, "order": ["grey", ["tiny", "pixels"], "small"], "share": {"grey": 0.7}}),
    ("cascaded", {"names": ["pixels", "tiny"], "order": [["pixels", "tiny"]]}),
    ("shifted", {"alpha": 4, "offset": 0.2}),
    ("shifted", {"streams": 3, "alpha": 1 / 9, "offset": -0.6}),
    (
        "shifted",
        {"streams": 4, "names": FOUR, "shift": {"tiny": 5, "pixels": 0.1}, "delay": {"grey": 0.4, "tiny": 0.1}},
    ),
    ("offset", {"streams": 3, "names": THREE, "delay": {"tiny": 0.3}, "std": {"tiny": 0.5, "small": 2}}),
    ("points", {}),
    ("points", {"points": [[0, 0], [0.05, 0.7], [1, 1]]}),
    ("points", {"points": [[0, 0], [0, 1], [1, 1]], "piece_steps": [5, 7]}),
    ("points", {"points": [[0, 0, 0], [0.3, 0, 0.9], [0.3, 0.5, 1], [1, 1, 1]], "piece_steps": [1, 2, 1]}),
    (
        "points",
        {
            "streams": 4,
            "names": FOUR,
            "mean": {"grey": 0.0},
            "points": {
                "grey": [0, 0.2, 0.2, 1],
                "pixels": [0, 0, 0.1, 1],
                "tiny": [0, 0.9, 1, 1],
                "small": [0, 0.5, 0.9, 1],
            },
        },
    ),
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


def test_the_clip_of_the_velocity_is_a_third_only_for_independent() -> None:
    clips = {name: schedules.create(name).t_clip for name, _ in CASES}
    assert clips.pop("independent") == pytest.approx(1 / 3) and set(clips.values()) == {0.05}


def test_over_more_streams_keeps_all_other_parameters() -> None:
    three = schedules.create("shifted", alpha=4, p_latent=0.7).over(3)
    assert three == schedules.create("shifted", alpha=4, p_latent=0.7, streams=3)
    with pytest.raises(UserError, match="1 stream"):
        three.over(1)
    assert three.over(["pixels", "tiny", "small"]) == three, "it needs no names"


def test_the_loss_is_the_weighted_squared_difference_of_velocities() -> None:
    x, x_hat, z = (torch.randn(5, 2, 3, 3) for _ in range(3))
    t, weight = torch.tensor([0.0, 0.3, 0.7, 0.9, 1.0]), torch.rand(5)  # the last two are clipped
    apart = flow.velocity(x, z, t, 0.2) - flow.velocity(x_hat, z, t, 0.2)
    expected = (weight * apart.square().mean((1, 2, 3))).mean()
    torch.testing.assert_close(flow.velocity_loss(x, x_hat, t, weight, 0.2), expected)


class ForTwo(Schedule):
    """Written with two streams in mind, as many are."""

    name: Literal["for_two"] = "for_two"
    kind: Literal["shape", "index"] = "shape"

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Times:
        t = torch.rand(n, 2, generator=generator)
        t = t[:, [0, self.streams - 1]] if self.kind == "index" else t
        return Times(t, torch.ones_like(t))

    def curve(self, u: torch.Tensor) -> torch.Tensor:
        return torch.stack([u, u], -1)


@pytest.mark.parametrize(("kind", "said"), [("shape", "its sample gives 2"), ("index", "its sample fails .index 2")])
def test_a_schedule_for_two_streams_is_refused_for_three(kind: Literal["shape", "index"], said: str) -> None:
    assert ForTwo(kind=kind).over(2) == ForTwo(kind=kind)
    with pytest.raises(UserError, match=f"schedule=for_two: cannot be used with 3 streams: {said}"):
        ForTwo(kind=kind).over(["pixels", "tiny", "small"])
