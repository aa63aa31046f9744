"""Orders, offsets with shifts and values by name leave the published schedules as they were, bit for bit."""

import json
from pathlib import Path

import published_schedules as published
import pytest
import torch
from toy import LATENT, training

from lf import schedules
from lf.config import Evaluation, identity
from lf.core.parsing import parse

RESULTS = Path(__file__).parents[2] / "results"
streams = pytest.mark.parametrize("k", [2, 3, 4])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@streams
def test_cascaded_draws_the_same_times(k: int) -> None:
    times = schedules.create("cascaded", streams=k).sample(2000, generator=seeded(k))
    stream, _ = published.drawn(2000, k, seeded(k))
    assert times.t.equal(published.cascaded(2000, k, seeded(k)))
    assert times.weight.equal(torch.nn.functional.one_hot(stream, k).float())


@streams
@pytest.mark.parametrize(
    ("parameters", "inverse"),
    [
        ({"name": "shifted", "alpha": 9.0}, lambda t, i, k: published.f(1 / 9 ** (0.5 - (i - 1) % k / (k - 1)), t)),
        ({"name": "offset", "offset": 0.1}, lambda t, i, k: (o := 0.1 * ((i - 1) % k) / (k - 1)) + (1 - o) * t),
    ],
    ids=["shifted", "offset"],
)
def test_the_others_draw_the_same_times(k: int, parameters: dict, inverse) -> None:  # noqa: ANN001 (a callable)
    schedule = schedules.create(**parameters, streams=k)
    stream, t = published.drawn(2000, k, seeded(k))
    curve = published.shifted if schedule.name == "shifted" else published.offset
    value = parameters.get("alpha", parameters.get("offset"))
    u = torch.stack([inverse(t, i, k) for i in range(k)], -1).gather(-1, stream[:, None])[:, 0]
    expected = curve(u, k, value).scatter(-1, stream[:, None], t[:, None])
    assert schedule.sample(2000, generator=seeded(k)).t.equal(expected)


@streams
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_curves_are_the_same(k: int, dtype: torch.dtype) -> None:
    u = torch.rand(5000, dtype=dtype)
    for alpha in (1 / 64, 1.0, 9.0):
        assert schedules.create("shifted", streams=k, alpha=alpha).curve(u).equal(published.shifted(u, k, alpha))
    for o in (-0.3, 0.0, 0.1):
        assert schedules.create("offset", streams=k, offset=o).curve(u).equal(published.offset(u, k, o))


NEW = {"names", "order", "mean", "std", "share", "delay", "shift", "piece_steps", "given"}


@pytest.mark.parametrize("name", [name for name in schedules.names() if name != "points"])
def test_what_is_not_used_is_not_part_of_an_identity(name: str) -> None:
    dump = schedules.create(name).model_dump(mode="json")
    assert not NEW & {*dump} and ("offset" in dump) == (name == "offset")


@pytest.mark.parametrize("name", ["order_ablation", "single_schedule", "components"])
def test_the_schedules_of_committed_results_are_dumped_as_they_were(name: str) -> None:
    shared, own = json.loads((RESULTS / name / "configs.json").read_text())
    for config in own.values():
        for prefix in ("evaluation.path.", "training.schedule."):
            values = {k.removeprefix(prefix): v for k, v in {**shared, **config}.items() if k.startswith(prefix)}
            assert schedules.create(**values).model_dump(mode="json") == values


def test_what_the_usual_words_say_is_the_same_run() -> None:
    """Two commands that ask for the same thing share the run, whichever way they say it."""

    def name(*words: str) -> str:
        config = training(LATENT, *words)
        return identity(config.model_dump(mode="json", exclude={"runtime"}))

    usual = name("schedule=cascaded", "schedule.D_mean=-0.5", "schedule.P_std=1.5", "schedule.p_latent=0.75")
    latent = "schedule.{}.pixels_latent={}".format
    by_name = [latent("mean", -0.5), latent("share", 0.75), "schedule.std.pixels=1.5"]
    for order in ("[pixels_latent,pixels]", "[[pixels_latent],[pixels]]"):
        assert name("schedule=cascaded", f"schedule.order={order}", *by_name) == usual
    assert name("schedule=cascaded", "schedule.order=[pixels,pixels_latent]", *by_name) != usual
    together = [
        name("schedule=cascaded", f"schedule.order=[[{o}]]") for o in ("pixels,pixels_latent", "pixels_latent,pixels")
    ]
    assert together[0] == together[1]
    assert name("schedule=shifted", "schedule.delay.pixels=0") == name("schedule=shifted", "schedule.offset=0")


def test_the_path_of_an_evaluation_is_told_in_full() -> None:
    config = parse(Evaluation, {"path": {"name": "cascaded", "order": ["pixels", "pixels_latent"]}})
    assert config.path is not None
    told = config.path.over(["pixels", "pixels_latent"]).model_dump(mode="json")
    assert told["order"] == [["pixels"], ["pixels_latent"]] and told["names"] == ["pixels", "pixels_latent"]
    assert schedules.create(**told).path(4).tolist() == [[0, 0], [0.5, 0], [1, 0], [1, 0.5], [1, 1]]
