"""The search for an order: its space, its halving and what comes out of it, by one worker in this process."""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline import inline
from toy import Judged, refusal

from lf import schedules
from lf.config import Evaluation, Training
from lf.runs import Run, TrainingRun, training_run
from lf.schedules import Schedule
from lf.train import main as train_main
from sweeps import order
from sweeps.recipe import recipe_of
from sweeps.search.halving import OrderFound, budget, find_order
from sweeps.search.orders import OrderSearch, OrderSpace
from sweeps.search.space import Point

TWO = ["latents=tiny"]
THREE = ["latents=[tiny,{name: pixels, cells: 2}]"]
SEVERAL = ["p_latent=[0.2,0.6,0.2]", "D_mean=[-1,0,0.5]", "knots=3"]


def space(*words: str) -> OrderSpace:
    return OrderSpace(recipe_of(OrderSearch, words, "order"))


def points(some: OrderSpace) -> st.SearchStrategy[Point]:
    """Any point of a space."""
    sizes = {n: st.floats(v.low, v.high).map(v.nearest) for n, v in some.ranges.items()}
    return st.fixed_dictionaries({"kind": st.sampled_from(some.kinds), **sizes})


def test_its_kinds_are_every_cascade_and_the_other_families() -> None:
    assert space(*TWO).kinds == ("cascaded tiny, pixels", "cascaded pixels, tiny", "shifted", "offset", "points")
    kinds = space(*THREE).kinds
    assert len(kinds) == 12 + 3 and kinds[0] == "cascaded tiny, pixels_latent, pixels"
    assert "cascaded tiny+pixels_latent, pixels" in kinds and len({*kinds}) == len(kinds)
    assert space(*TWO, "families=[shifted]").kinds == ("shifted",)


@pytest.mark.parametrize("words", [TWO, THREE, [*TWO, *SEVERAL], [*THREE, *SEVERAL]])
def test_every_point_is_a_schedule_that_can_be_trained_and_sampled(words: list[str]) -> None:
    some = space(*words)

    @given(points(some))
    def check(point: Point) -> None:
        schedule = some.schedule(point)
        path = schedule.path(some.evaluation().steps)
        assert path.shape == (some.evaluation().steps + 1, len(some.streams))
        assert path[0].eq(0).all() and path[-1].eq(1).all() and path.diff(dim=0).ge(0).all()
        assert some.training(point, 0.1).schedule == schedule
        told = some.told(point)
        same = Point({**point, **some.usual, **{k: v for k, v in point.items() if k != "beta"}})
        assert (some.text(same) == some.text(point)) == (some.told(same) == told)

    check()


def test_a_usual_point_is_the_preset_s_own_schedule_and_a_familiar_one() -> None:
    some = space(*TWO)
    first = {some.told(point): some.schedule(point) for point in some.first()}
    assert first["cascaded tiny, pixels beta 0.25"] == some.recipe.schedule
    usual: dict[str, Any] = {"D_mean": -0.4}
    assert first["shifted lead tiny 3"] == schedules.create("shifted", alpha=8, **usual)
    assert first["shifted lead tiny 0"] == schedules.create("shifted", alpha=1, **usual)
    assert first["offset head tiny 0.1"] == schedules.create("offset", offset=0.1, **usual)
    assert {"cascaded pixels_latent, tiny, pixels beta 0.25", "cascaded tiny+pixels_latent, pixels beta 0.25"} <= {
        space(*THREE).told(point) for point in space(*THREE).first()
    }


def test_its_identity_is_that_of_what_determines_the_trials() -> None:
    assert space(*TWO).id == space(*TWO, "trials=30", "workers=3", "end=0.9").id
    others = ["seed=1", "lr=0.1", "beta=0", "lead=[0,4,1]", "shares=[0.1,0.2]", "evaluation.n=64", "families=[shifted]"]
    assert len({space(*TWO).id, *(space(*TWO, word).id for word in others)}) == 1 + len(others)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("latents=[]", "add a latent, such as latents=[tiny]"),
        ("head=[0,1,0.1]", "head=[0, 1, 0.1]: needs values above -1 and below 1"),
        ("beta=[0,2,1]", "beta=[0, 2, 1]: needs values from 0 to 1"),
        ("lead.dino=3", "lead.dino: unknown latent; allowed: tiny"),
        ("lead=[0,1,0.3]", "must have a whole number of steps"),
        ("schedule=cascaded", "training.schedule: is set by the search"),
        ("shares=[0.2,0.1]", "shares=[0.2, 0.1], end=0.5: must be above 0 and grow"),
        ("end=0.1", "end=0.1: must be above 0 and grow"),
        ("families=[shiftd]", "shifted"),
        ("objectives=[agrement]", "did you mean 'agreement'"),
        ("points=[{lead.tiny: 3.5}]", "points: lead.tiny=3.5 is not in the space"),
        ("trails=3", "did you mean 'trials'"),
    ],
)
def test_bad_input_is_one_line(word: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refusal(order.main, [*TWO, word, f"runs={tmp_path}"], capsys)
    assert not [*tmp_path.iterdir()]


Scored = Callable[..., Counter[tuple[int, int]]]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scored:
    """Replaces trainings and evaluations by a score of the schedule and of the length; counts them."""

    def install(score: Callable[[Schedule, float], float], diverges: str = "") -> Counter[tuple[int, int]]:
        from lf.core.errors import NotANumberError

        done = Counter[tuple[int, int]]()

        def train(training: Training) -> dict[str, Any]:
            run = training_run(training)
            if diverges and training.schedule.name == diverges:
                raise NotANumberError("loss is not a number")
            if run.row is None:
                done[training.steps, training.seed] += 1
                with run.held():
                    run.finish({"loss": 1.0, "classes": []})
            return run.row or {}

        def evaluate(trained: TrainingRun, evaluation: Evaluation) -> dict[str, Any]:
            from lf.runs import evaluation_run

            run: Run = evaluation_run(trained, evaluation)
            training = trained.training
            found = score(training.schedule, training.steps) + 0.01 * evaluation.seed
            return run.row or run.finish({"fd": found, "agreement": 1 / found})

        for module in ("lf.train.train", "sweeps.jobs.task.train", "sweeps.search.orders.train"):
            monkeypatch.setattr(module, train)
        for module in ("sweeps.jobs.task.evaluate", "sweeps.search.orders.evaluate"):
            monkeypatch.setattr(module, evaluate)
        return done

    return install


def by_lead(schedule: Schedule, steps: float) -> float:
    """Best for `shifted` at alpha 32; longer trainings are better, by as much for all."""
    if schedule.name != "shifted":
        return 50 - steps / 1000
    return 5 + abs(math.log2(schedule.alpha) - 5) - steps / 1000  # type: ignore[attr-defined]


def find(tmp_path: Path, *words: str) -> OrderFound:
    with inline():
        found = find_order([*TWO, f"runs={tmp_path}", "executor=local", "workers=1", *words])
    assert found is not None
    return found


def test_the_better_half_goes_on_and_the_best_order_is_trained_to_its_end(fake: Scored, tmp_path: Path) -> None:
    done = fake(by_lead)
    words = ["trials=12", "families=[cascaded,shifted]", "lead=[-4,8,1]"]
    found = find(tmp_path, *words)
    # The trunk; 12, 6 and 3 orders at 5, 10 and 20 % of 4,000 steps; the best one at 50 %, with two seeds.
    assert done == {(4000, 0): 1, (200, 0): 12, (400, 0): 6, (800, 0): 3, (2000, 0): 1, (2000, 1): 1}
    assert [found.space.told(point) for point in found.best] == ["shifted lead tiny 5"]
    assert found.row(found.best[0], 0.5)["fd"] == 3  # type: ignore[index]
    assert found.row(found.best[0], 0.5, noise=1)["fd"] == 3.01  # type: ignore[index]
    assert len(found.cells) == 12 + 6 + 3 + 3
    before = dict(done)
    assert find(tmp_path, *words).best == found.best and done == before, "the same command repeats nothing"
    find(tmp_path, *words, "trials=14")
    assert done[200, 0] == 14 and done[4000, 0] == 1, "more trials are added"


def test_an_order_that_diverges_is_left_out(fake: Scored, tmp_path: Path) -> None:
    fake(by_lead, diverges="cascaded")
    found = find(tmp_path, "trials=6")
    states = {row["point"]["kind"].split()[0]: row["state"] for row in found.trials.rows()}
    assert states["cascaded"] == "fail" and states["shifted"] == "complete"
    assert found.best[0]["kind"] == "shifted"


def test_several_objectives_give_a_front(fake: Scored, tmp_path: Path) -> None:
    fake(by_lead)
    one = find(tmp_path, "trials=6", "objectives=[fd,agreement]")
    assert len(one.best) == 1, "both are best for the same order"
    assert one.ranked([row["point"] for row in one.trials.rows()], 0.05)[0] == one.best


def test_the_budget_is_what_is_trained(fake: Scored, tmp_path: Path) -> None:
    done = fake(by_lead)
    found = find(tmp_path, "trials=8", "shares=[0.1,0.3]", "keep=0.25", "end=0.4")
    told = budget(found.space)
    assert "the trunk 4,000 steps, 8 orders 400 each, 2 orders 800 more, the best one 400 more, and 1,600" in told
    assert f"{4000 + 8 * 400 + 2 * 800 + 400 + 1600:,} training steps" in told
    assert done == {(4000, 0): 1, (400, 0): 8, (1200, 0): 2, (1600, 0): 1, (1600, 1): 1}


@pytest.mark.slow
def test_a_search_end_to_end(judged: Judged, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real trainings: nothing twice, and the files name the best one's training and its path."""
    store = judged(tmp_path / "runs")
    words = ["data=digits", "resolution=16", "latents=pixels", "runtime.compile=false"]
    words += ["budget=smoke", "steps=20", "network.patch=4", "trials=4", "evaluation.features=[judge]"]
    with inline():
        order.main([*words, f"runs={store}", "--workers", "1", "--executor", "local"])
    out = capsys.readouterr().out
    assert "best order: " in out and "report: " in out
    (folder,) = store.glob("sweeps/order-*")
    cells = json.loads((folder / "sweep.json").read_text())["cells"]
    assert {cell["share"] for cell in cells} == {0.05, 0.1, 0.2, 0.5}
    trainings = [*store.glob("training/*/row.json")]
    winner = next(cell["training_id"] for cell in cells if cell["share"] == 0.5 and cell["seed"] == 0)
    train_main([f"preset={folder / 'order.yaml'}", f"runs={store}"])
    assert f"training/{winner}" in capsys.readouterr().out
    train_main(["preset=shapes", *words[:4], f"schedule={{name: points, points: {folder / 'points.yaml'}}}",
                "steps=1", "batch=4", "network.patch=4", f"runs={store}"])  # fmt: skip
    assert len([*store.glob("training/*/row.json")]) == len(trainings) + 1
