"""`points`: a path as data, inline, by name or from a file."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from test_densities import fits, logit_normal
from toy import refusal, training

from lf import schedules, train
from lf.core.errors import UserError
from lf.runs import training_run

NAMES = ["pixels", "tiny", "small", "grey"]
LED = [[0, 0], [0.05, 0.7], [1, 1]]
CASCADE = [[0, 0], [0, 1], [1, 1]]


@st.composite
def polylines(draw: st.DrawFn) -> list[list[float]]:
    """Points over 2 to 4 streams; some streams stand still on some pieces."""
    k, pieces = draw(st.integers(2, 4)), draw(st.integers(1, 5))
    moves = st.lists(st.sampled_from([0, 0, 1, 2, 7]), min_size=pieces, max_size=pieces)
    columns = [draw(moves.filter(any)) for _ in range(k)]
    rows = [[sum(c[:p]) / sum(c) for c in columns] for p in range(pieces + 1)]
    return [rows[0], *(b for a, b in pairwise(rows) if a != b)]


@given(polylines(), st.integers(5, 60))
def test_its_path_runs_through_every_point_in_equal_steps_per_piece(points: list, steps: int) -> None:
    schedule = schedules.create("points", points=points)
    path = schedule.path(steps)
    assert path.shape == (steps + 1, len(points[0]))
    assert (path[0] == 0).all() and (path[-1] == 1).all() and (path.diff(dim=0) >= 0).all()
    rows = path.tolist()
    at = [rows.index(point) for point in points]
    for (a, b), (start, end) in zip(pairwise(at), pairwise(points), strict=True):
        step = torch.tensor([start, end], dtype=torch.float64).diff(dim=0) / (b - a)
        torch.testing.assert_close(path[a : b + 1].diff(dim=0), step.expand(b - a, -1), rtol=0, atol=1e-12)


@given(polylines(), st.floats(0, 1))
def test_its_inverse_leads_back_and_is_monotone(points: list, t: float) -> None:
    schedule = schedules.create("points", points=points)
    now = torch.tensor([0.0, t, 1.0], dtype=torch.float64)
    for stream in range(schedule.streams):
        u = schedule.inverse(now, stream)
        assert (u.diff() >= 0).all() and u.min() >= 0 and u.max() <= 1
        torch.testing.assert_close(schedule.curve(u)[:, stream], now, rtol=0, atol=1e-9)


@given(polylines())
def test_its_derivative_is_the_slope(points: list) -> None:
    schedule = schedules.create("points", points=points)
    u = torch.rand(50, dtype=torch.float64).requires_grad_()
    slopes = [torch.autograd.grad(c.sum(), u, retain_graph=True)[0] for c in schedule.curve(u).unbind(-1)]
    torch.testing.assert_close(schedule.derivative(u.detach()), torch.stack(slopes, -1))


def test_pieces_get_the_steps_they_ask_for_or_as_many_as_they_are_long() -> None:
    def steps_of(count: int, **parameters: object) -> list[int]:
        path = schedules.create("points", **parameters).path(count).tolist()
        at = [path.index(list(map(float, point))) for point in parameters["points"]]
        return [b - a for a, b in pairwise(at)]

    assert steps_of(40, points=LED, piece_steps=[10, 30]) == [10, 30]
    assert steps_of(20, points=LED, piece_steps=[10, 30]) == [5, 15]
    assert steps_of(40, points=LED) == [15, 25]  # lengths 0.75 and 1.25
    assert steps_of(2, points=LED, piece_steps=[1, 99]) == [1, 1]
    assert schedules.create("points", points=LED).path(1).tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("steps", [2, 8, 50])
def test_a_cascade_as_points_is_the_cascade(steps: int) -> None:
    path = schedules.create("points", points=CASCADE).path(steps)
    torch.testing.assert_close(path, schedules.create("cascaded").path(steps), rtol=0, atol=1e-12)
    t, weight = schedules.create("points", points=CASCADE).sample(5000, generator=torch.Generator().manual_seed(0))
    assert (t[weight[:, 1] == 1, 0] == 0).all() and (t[weight[:, 0] == 1, 1] == 1).all()


@pytest.mark.parametrize("k", [2, 3, 4])
def test_one_stream_draws_its_time_and_the_others_follow(k: int) -> None:
    points = [[0.0] * k, [0.3, 0.8, 0.3, 0.0][:k], [0.3, 1, 0.9, 0.6][:k], [1.0] * k]  # pixels stand still in between
    schedule = schedules.create("points", points=points)
    t, weight = schedule.sample(20_000, generator=torch.Generator().manual_seed(0))
    for stream in range(k):
        own = weight[:, stream] == 1
        assert fits(t[own, stream], logit_normal(-0.4, 0.8) if not stream else logit_normal(-1.2, 1.0))
        for other in range(k):
            x, y = ([p[i] for p in points] for i in (stream, other))
            if len(set(x)) == len(x):  # else the times of the others jump where this stream stands still
                follows = torch.from_numpy(_interpolated(t[own, stream], x, y))
                torch.testing.assert_close(t[own, other].double(), follows, rtol=0, atol=1e-4)
    assert stats.binomtest(int((weight[:, 0] == 1).sum()), 20_000, 0.6).pvalue > 1e-3


def _interpolated(t: torch.Tensor, x: list[float], y: list[float]):  # noqa: ANN202 (an array)
    import numpy as np

    return np.interp(t.double().numpy(), x, y)


def test_a_file_by_name_is_the_same_run_as_points_inline(tmp_path: Path) -> None:
    file = tmp_path / "led.yaml"
    file.write_text("tiny: [0, 7e-1, 1]\npixels: [0, 0.05, 1]\npiece_steps: [10, 30]\n")
    inline = {"points": LED, "piece_steps": [10, 30]}
    found = schedules.create("points", points=str(file)).over(["pixels", "tiny"])
    file.unlink()
    assert found == schedules.create("points", **inline).over(["pixels", "tiny"])
    assert found == schedules.create(
        "points", points={"pixels": [0, 0.05, 1], "tiny": [0, 0.7, 1]}, piece_steps=[10, 30]
    ).over(["pixels", "tiny"])
    assert "led" not in found.model_dump_json()
    swapped = schedules.create("points", points={"pixels": [0, 0.05, 1], "tiny": [0, 0.7, 1]}).over(["tiny", "pixels"])
    assert swapped.path(2).tolist() == [[0, 0], [0.7, 0.05], [1, 1]]


def test_the_identity_of_a_training_holds_the_points_and_not_the_file(tmp_path: Path) -> None:
    names = []
    for file in (tmp_path / "a.yaml", tmp_path / "b.yaml"):
        file.write_text("{pixels: [0, 0.05, 1], pixels_latent: [0, 0.7, 1]}")
        names.append(training_run(_training(f"schedule.points={file}")).id)
    assert names[0] == names[1] == training_run(_training("schedule.points=[[0,0],[0.05,0.7],[1,1]]")).id
    assert names[0] != training_run(_training("schedule.points=[[0,0],[0.05,0.8],[1,1]]")).id


def _training(*words: str):  # noqa: ANN202 (a config)
    return training("latents=[{name: pixels, cells: 2}]", "schedule=points", *words)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ("[[0,0],[0.5,0.7],[0.4,1],[1,1]]", "time runs backwards from point 2"),
        ("[[0,0.1],[1,1]]", "must start at 0 and end at 1"),
        ("[[0,0],[0.9,1]]", "must start at 0 and end at 1"),
        ("[[0,0]]", "must start at 0 and end at 1"),
        ("[[0,0],[0.5,0.5],[0.5,0.5],[1,1]]", "point 3, .* is the one before again"),
        ("[[0,0,0],[1,1,1]]", "are of 3 streams and must be of 2"),
        ("[[0,0],[1]]", "lists of numbers of equal length"),
        ("[[0,0],[a,0.5],[1,1]]", "lists of numbers of equal length"),
        ("0.5", "lists of numbers"),
        ("{pixels: [0, 1], tiny: [0, 1]}", "points.tiny: no such stream; .*pixels_latent"),
        ("{pixels: [0, 1]}", "lack pixels_latent"),
        ("missing.yaml", "points=missing.yaml: No such file"),
        ("[[0,0],[2,0.5],[1,1]]", r"\[2, 0.5\]: times are numbers from 0 to 1"),
    ],
)
def test_bad_points_are_one_line(points: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data=digits", "resolution=16", "latents=[{name: pixels, cells: 2}]", "schedule=points"]
    line = refusal(train.main, [*words, f"schedule.points={points}"], capsys)
    with pytest.raises(UserError, match=said):
        raise UserError(line)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pixels: [0, 0.5", "points=.*bad.yaml: .*expected ','"),
        ("{pixels: [0, .nan, 1], tiny: [0, 0, 1]}", "bad.yaml: .*times are numbers from 0 to 1"),
        ("[[0, 0], [1, 1]]", "must hold the times of each stream by name"),
        ("{pixels: [0, 1], tiny: [0, 0.5, 1]}", "lists of numbers of equal length"),
        ("{pixels: [0, 1], tiny: [0, 1], piece_steps: [1, 2]}", "must be 1 numbers"),
        ("{pixels: [0, 1], tiny: [0, 1], piece_steps: [0]}", "of 1 or more"),
        ("{pixels: [0, 1], tinny: [0, 1]}", "points.tinny: no such stream; .*did you mean 'tiny'"),
        ("", "must"),
    ],
)
def test_a_bad_file_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError, match=said) as error:
        schedules.create("points", points=str(tmp_path / "bad.yaml")).over(["pixels", "tiny"])
    assert "\n" not in str(error.value)
