"""The sampler on velocities whose answer is known."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from lf import schedules
from lf.diffusion.solver import sample


class Towards:
    """The velocity ``(x0 - z) / max(1-t, clip)`` of a model that knows the answer. Records what it is asked for."""

    def __init__(self, x0: list[Tensor], clip: float = 0.05):
        self.x0, self.clip = x0, clip
        self.asked: list[list[int]] = []

    def __call__(self, z: list[Tensor], t: Sequence[float], moves: Sequence[bool]) -> list[Tensor | None]:
        self.asked.append([i for i, m in enumerate(moves) if m])
        return [
            (x - a) / max(1 - now, self.clip) if m else None
            for x, a, now, m in zip(self.x0, z, t, moves, strict=True)
        ]  # fmt: skip


def noise_and_data(k: int) -> tuple[list[Tensor], list[Tensor]]:
    shapes = [(2, 3, 8, 8), (2, 5, 4, 4), (2, 2, 4, 4)][:k]
    return [torch.randn(s).double() for s in shapes], [torch.randn(s).double() for s in shapes]


PATHS = [
    ("pixel_only", {"streams": 1}),
    ("cascaded", {"streams": 2}),
    ("cascaded", {"streams": 3, "latent_max": 1.0}),
    ("shifted", {"streams": 2, "alpha": 9}),
    ("shifted", {"streams": 3, "alpha": 1 / 4}),
    ("offset", {"streams": 2, "offset": 0.3}),
]


@pytest.mark.parametrize("solver", ["heun_per_stream", "euler"])
@pytest.mark.parametrize(("name", "parameters"), PATHS, ids=str)
def test_it_arrives_at_the_data_and_leaves_the_noise_as_given(name: str, parameters: dict, solver: str) -> None:
    schedule = schedules.create(name, **parameters)
    noise, x0 = noise_and_data(schedule.streams)
    kept = [e.clone() for e in noise]
    # a clip below the shortest last step: the straight line to x0 is then followed exactly
    out = sample(Towards(x0, clip=1e-3), noise, schedule.path(12), solver)
    for found, x in zip(out, x0, strict=True):
        torch.testing.assert_close(found, x, rtol=0, atol=1e-9)
    assert all(a.equal(b) for a, b in zip(noise, kept, strict=True))


def test_the_clip_holds_back_the_last_steps() -> None:
    # At t = 0.96 and 0.98 a step of 0.02 covers 0.02 / 0.05 of what is left, instead of 1/2 and all of it.
    (noise,), (x0,) = noise_and_data(1)
    (out,) = sample(Towards([x0], clip=0.05), [noise], schedules.create("pixel_only").path(50), "euler")
    torch.testing.assert_close(x0 - out, (x0 - noise) * 0.06 * 0.6**2 * (1 - 0.02 / 0.06), rtol=1e-6, atol=1e-9)


def gaussian(mean: float, std: float):  # noqa: ANN201 (a callable)
    """Velocity of data N(mean, std²) by its posterior mean E[x|z]; the exact flow ends at mean + std · noise."""

    def velocity(z: list[Tensor], t: Sequence[float], moves: Sequence[bool]) -> list[Tensor | None]:
        (now,), (a,) = t, z
        x_hat = mean + now * std**2 / (now**2 * std**2 + (1 - now) ** 2) * (a - now * mean)
        return [(x_hat - a) / (1 - now)]

    return velocity


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_halving_the_steps_divides_the_error_by_the_order_of_the_solver(solver: str, order: int) -> None:
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 1, 3, 3)
    errors = []
    for steps in (64, 128):
        (out,) = sample(gaussian(0.3, 0.5), [noise], schedules.create("pixel_only").path(steps), solver)
        errors.append((out - (0.3 + 0.5 * noise)).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_along_the_cascaded_path_only_the_stream_that_moves_is_asked_for() -> None:
    noise, x0 = noise_and_data(3)
    velocity = Towards(x0)
    sample(velocity, noise, schedules.create("cascaded", streams=3).path(12), "heun_per_stream")
    assert velocity.asked == [[1]] * 7 + [[2]] * 7 + [[0]] * 7  # 4 steps each: 2·4 - 1 passes
    velocity.asked.clear()
    sample(velocity, noise, schedules.create("cascaded", streams=3).path(12), "heun")
    assert velocity.asked == [[1]] * 8 + [[2]] * 8 + [[0]] * 7


def test_along_the_offset_path_a_stream_is_asked_for_once_it_starts() -> None:
    noise, x0 = noise_and_data(2)
    velocity = Towards(x0)
    path = schedules.create("offset", offset=0.5).path(10)
    sample(velocity, noise, path, "euler")
    assert velocity.asked == [[0, 1] if then[0] > 0 else [1] for then in path[1:]]
    assert [1] in velocity.asked and [0, 1] in velocity.asked


def test_a_stream_that_arrives_before_the_others_is_left_out_of_the_second_pass() -> None:
    noise, x0 = noise_and_data(2)
    velocity = Towards(x0)
    path = torch.tensor([[0, 0], [0.4, 1], [0.8, 1], [1, 1]], dtype=torch.float64)
    sample(velocity, noise, path, "heun_per_stream")
    assert velocity.asked == [[0, 1], [0], [0], [0], [0]]
    velocity.asked.clear()
    sample(velocity, noise, path, "heun")
    assert velocity.asked == [[0, 1], [0, 1], [0], [0], [0]]


def test_streams_that_stand_still_stay_noise() -> None:
    noise, x0 = noise_and_data(2)
    out = sample(Towards(x0), noise, schedules.create("latent_only").path(10))
    assert out[0].equal(noise[0]) and not out[1].equal(noise[1])


@pytest.mark.parametrize(
    ("name", "streams", "solver", "steps", "passes"),
    [
        ("pixel_only", 1, "heun", 50, 99),
        ("pixel_only", 1, "heun", 1, 1),
        ("pixel_only", 1, "euler", 50, 50),
        ("cascaded", 2, "heun", 50, 99),
        ("cascaded", 2, "heun_per_stream", 50, 98),  # two arrivals, two Euler steps
        ("cascaded", 2, "euler", 50, 50),
        ("cascaded", 3, "heun_per_stream", 30, 57),
        ("shifted", 2, "heun", 50, 99),
    ],
)
def test_number_of_network_passes(name: str, streams: int, solver: str, steps: int, passes: int) -> None:
    noise, x0 = noise_and_data(streams)
    velocity = Towards(x0)
    sample(velocity, noise, schedules.create(name, streams=streams).path(steps), solver)
    assert len(velocity.asked) == passes


def test_a_stream_that_stops_short_of_clean_keeps_its_heun_steps() -> None:
    noise, x0 = noise_and_data(2)
    velocity = Towards(x0)
    sample(velocity, noise, schedules.create("cascaded", latent_max=0.9).path(10), "heun_per_stream")
    assert velocity.asked == [[1]] * 10 + [[0]] * 9


def test_noise_is_mixed_again_into_a_stream_that_is_done_and_its_time_is_told() -> None:
    noise, x0 = noise_and_data(2)
    fresh = [torch.randn_like(e) for e in noise]
    told: list[tuple[float, ...]] = []
    seen: list[Tensor] = []

    class Watching(Towards):
        def __call__(self, z: list[Tensor], t: Sequence[float], moves: Sequence[bool]) -> list[Tensor | None]:
            told.append(tuple(t))
            seen.append(z[1])
            return super().__call__(z, t, moves)

    out = sample(Watching(x0, clip=1e-3), noise, schedules.create("cascaded").path(4), "euler", (0.25, fresh))
    assert told == [(0, 0), (0, 0.5), (0, 0.75), (0.5, 0.75)]
    torch.testing.assert_close(seen[2], 0.75 * x0[1] + 0.25 * fresh[1])
    assert seen[3].equal(seen[2])
    torch.testing.assert_close(out[0], x0[0])  # what arrives last is left alone


def test_noise_is_mixed_into_no_stream_that_has_none_or_never_moved() -> None:
    noise, x0 = noise_and_data(3)
    fresh = [None, *(torch.randn_like(e) for e in noise[1:])]
    path = torch.tensor(
        [[0, 1, 0], [1, 1, 0], [1, 1, 0.5], [1, 1, 1]], dtype=torch.float64
    )  # pixels first; one is given
    out = sample(Towards(x0, clip=1e-3), noise, path, "euler", (0.25, fresh))
    torch.testing.assert_close(out[0], x0[0])
    assert out[1].equal(noise[1])
