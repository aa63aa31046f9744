"""The guidance search: its points, its order, what it finds, and what it says."""

import json
from collections import Counter
from pathlib import Path

import pytest
from searches import PLANE, SMALL, distinct, searched, told
from toy import refusal

from lf import evaluate as door_of_evaluate
from lf.config import Evaluation
from lf.runs import TrainingRun, evaluation_run, find_training
from sweeps import guidance, retry
from sweeps.jobs import state
from sweeps.search import guidance as guidance_module
from sweeps.search import outcome


def test_the_best_settings_are_a_preset_that_asks_for_the_same_evaluation(
    quick: None, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = searched(network, "shift.pixels_latent=[0.5,1,0.25]", "scale=[1,3,0.25]", "begin=[0,0.2,0.1]")
    best = trials.study.best_trial
    (file,) = outcome.presets(trials, str(network))
    store = network.parents[1]
    before = len(list((store / "evaluation").iterdir()))
    door_of_evaluate.main([f"run={network.name}", f"preset={file}", f"runtime.runs={store}", "runtime.compile=false"])
    row = json.loads(capsys.readouterr().out)
    assert row["id"] == best.user_attrs["evaluation"] and row["fd"] == best.value
    assert len(list((store / "evaluation").iterdir())) == before
    assert {f.name for f in outcome.plots(trials)} == {"history.png", "importance.png", "contour.png"}


def test_the_unguided_point_comes_first_and_is_a_sweeps_unguided_evaluation(quick: None, network: Path) -> None:
    trials = searched(network, *PLANE, most=11)
    found = find_training(str(network), guidance_module.settings([f"runtime.runs={network.parents[1]}"]).runtime)
    plain = evaluation_run(found, trials.space.evaluation(trials.space.usual))
    first, *others = trials.study.trials
    assert first.params == {"scale.pixels": 1, "scale.pixels_latent": 1}
    assert first.user_attrs["evaluation"] == plain.id and plain.config["guidance"]["kind"] == "none"
    grid = {tuple(trial.params.values()) for trial in others[:8]}
    assert grid == {(a, b) for a in (1, 2, 3) for b in (1, 2, 3)} - {(1, 1)}
    seeds = {json.loads(f.read_text())["seed"] for f in (network.parents[1] / "evaluation").glob("*/row.json")}
    assert seeds == {0}  # the noise is common to all


def test_a_point_that_is_there_costs_nothing(quick: None, network: Path) -> None:
    first = searched(network, *PLANE, most=9)
    times = {f: f.stat().st_mtime_ns for f in (network.parents[1] / "evaluation").glob("*/row.json")}
    second = searched(network, *PLANE, "seed=1", most=9)  # another search over the same grid
    assert second.name != first.name and told(second) == told(first)
    assert {f: f.stat().st_mtime_ns for f in (network.parents[1] / "evaluation").glob("*/row.json")} == times


def test_trials_end_early_only_against_others_of_as_many_images(quick: None, network: Path) -> None:
    trials = searched(network, *PLANE, "early=8", most=14)
    states = Counter(trial.state.name for trial in trials.study.trials)
    assert states["PRUNED"] and states["COMPLETE"] and sum(states.values()) == 14
    for trial in trials.study.trials:
        assert set(trial.intermediate_values) == {8}
        earlier = [other.intermediate_values[8] for other in trials.study.trials[: trial.number]
                   if other.state.name == "COMPLETE"]  # fmt: skip
        if trial.state.name == "PRUNED":
            assert trial.intermediate_values[8] > sorted(earlier)[len(earlier) // 2 - 1]


@pytest.mark.parametrize("optimum", [(2.2, 1.4), (1.45, 2.7), (1.5, 1.9)])
def test_the_search_is_never_behind_a_grid_of_as_many_evaluations(
    network: Path, monkeypatch: pytest.MonkeyPatch, optimum: tuple[float, float]
) -> None:
    def score(pixels: float, latent: float) -> float:  # a tilted bowl with its optimum inside
        a, b = pixels - optimum[0], latent - optimum[1]
        return 30 + 4 * a * a + 6 * b * b + 3 * a * b

    def evaluate(_: TrainingRun, evaluation: Evaluation) -> dict[str, object]:
        scale = {"pixels": 1.0, "pixels_latent": 1.0, **evaluation.guidance.scale}
        return {"id": "none", "fd": score(scale["pixels"], scale["pixels_latent"])}

    monkeypatch.setattr(guidance_module, "evaluate", evaluate)
    trials = searched(network, "scale=[1,3,0.05]", "begin=0", "end=1", "shift=1", most=25)
    found = [trial.value for trial in trials.study.trials]
    assert distinct(trials) == 25
    for side in (2, 3, 4, 5):
        values = [1 + 2 * i / (side - 1) for i in range(side)]
        grid = min(score(a, b) for a in values for b in values)
        assert min(found[: side * side]) <= grid + 1e-9, f"{side} x {side}"
    assert min(found) < 30.05


def test_a_retry_says_which_command_tries_again(quick: None, network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = searched(network, *PLANE, most=2)
    state.write(trials.folder, {"cells": [], "units": [{"training": network.name}], "words": ["scale=[1,3,0.25]"]})
    line = refusal(retry.main, [trials.name, f"runs={network.parents[1]}"], capsys)
    assert f"python -m sweeps.guidance {network.name} scale=[1,3,0.25]" in line


def test_no_evaluation_is_asked_for_twice(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # best where nothing of the latent's interval matters, as its scale is 1: many points, one evaluation
    def evaluate(_: TrainingRun, evaluation: Evaluation) -> dict[str, object]:
        scale = {"pixels": 1.0, "pixels_latent": 1.0, **evaluation.guidance.scale}
        return {"id": "none", "fd": (scale["pixels"] - 1.5) ** 2 + scale["pixels_latent"]}

    monkeypatch.setattr(guidance_module, "evaluate", evaluate)
    assert distinct(searched(network, "scale=[1,2,0.25]", "begin=[0,0.2,0.1]", "end=1", "shift=1", most=30)) == 30


def test_several_objectives_give_a_front(quick: None, network: Path) -> None:
    trials = searched(network, *PLANE, "objectives=[fd,class_accuracy]", most=10)
    assert [d.name for d in trials.study.directions] == ["MINIMIZE", "MAXIMIZE"]
    front = outcome.best(trials)
    assert len(outcome.presets(trials, str(network))) == len(front)
    for trial in trials.study.trials:
        worse = [t for t in front if t.values[0] <= trial.values[0] and t.values[1] >= trial.values[1]]
        assert worse, trial  # nothing beats the front
    assert "pareto.png" in {f.name for f in outcome.plots(trials)}


def test_mistakes_are_one_line(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def line(*words: str) -> str:
        return refusal(guidance.main, [str(network), f"runtime.runs={network.parents[1]}", *SMALL, *words], capsys)

    assert "did you mean 'scale'" in line("scal=[1,2,0.1]")
    assert "allowed: pixels, pixels_latent" in line("scale.pixel=2")
    assert "[1, 2, 0.3]" in line("scale=[1,2,0.3]")
    assert "needs guide=" in line("kinds=[autoguidance]")
    assert "takes one objective" in line("early=4", "objectives=[fd,recall]")
    assert "did you mean 'precision'" in line("objectives=precison")
    assert "0 <= begin < end" in line("begin=0.7")
    assert "not in the space" in line("points=[{scale.pixels: 7}]")
    assert "storage=nosuch://x" in line("storage=nosuch://x")
