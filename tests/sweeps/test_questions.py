"""The paper's questions: every sweep is one that both presets can plan, and on `shapes` each runs end to end."""

import json
from pathlib import Path

import pytest
from inline import inline

from lf.core.errors import UserError
from sweeps import launch
from sweeps.launch import settings
from sweeps.questions import questions

NAMES = sorted(questions())


def test_every_question_of_the_paper_has_a_sweep() -> None:
    assert NAMES == [
        "components", "diffusability", "distillation", "inference_noise", "latent_noise", "order_ablation",
        "p_latent", "p_mean_d_mean", "repa_placement", "single_schedule", "system",
    ]  # fmt: skip


@pytest.mark.parametrize("words", [["preset=shapes"], ["preset=imagenet256", "data=folder:x", "guide=abc"]])
@pytest.mark.parametrize("name", NAMES)
def test_its_cells_differ_and_a_guided_one_has_an_unguided_one_beside_it(name: str, words: list[str]) -> None:
    launch = settings([*words, "seeds=[0,1]"])
    cells = list(questions()[name].cells(launch))
    configs = [(c.training.model_dump_json(exclude={"runtime"}), c.evaluation.model_dump_json()) for c in cells]
    labels = [tuple(cell.labels.items()) for cell in cells]
    assert len(set(configs)) == len(set(labels)) == len(cells)
    assert all(cell.training.seed == cell.labels["seed"] for cell in cells)
    alone = {training for training, evaluation in configs if json.loads(evaluation)["guidance"]["kind"] == "none"}
    assert alone == {training for training, _ in configs}
    assert all(tuple(cell.labels) == tuple(cells[0].labels) for cell in cells) or name == "order_ablation"


def test_a_shorter_training_averages_its_weights_over_as_large_a_share_of_it() -> None:
    launch = settings(["warmup=200", "ema=[0.998]", "steps=4000"])
    half, whole, longer = (launch.model("lf", times) for times in (0.5, 1, 2.5))
    assert (half.steps, half.warmup, half.ema) == (2000, 100, (0.996004,))  # 1 / (1 - decay): 250 steps instead of 500
    assert (whole.steps, whole.warmup, whole.ema) == (4000, 200, (0.998,))
    assert (longer.steps, longer.warmup, longer.ema) == (10_000, 200, (0.998,)), "as the paper's longer ones"


def test_what_is_given_goes_over_what_the_preset_calls_lf() -> None:
    cells = questions()["p_latent"].cells(settings(["schedule.D_mean=-1.5"]))
    assert {cell.training.schedule.model_dump()["D_mean"] for cell in cells} == {-1.5}
    with pytest.raises(UserError, match="schedule.p_latent: is set by the sweep"):
        next(questions()["p_latent"].cells(settings(["schedule.p_latent=0.5"])))


def test_the_single_schedules_draw_the_times_of_a_latent_alike() -> None:
    cells = list(questions()["single_schedule"].cells(settings([])))
    assert len({cell.training.schedule.name for cell in cells}) == 3
    assert {cell.training.schedule.model_dump()["D_mean"] for cell in cells} == {-0.4}
    given = questions()["single_schedule"].cells(settings(["schedule.D_mean=-1.5"]))
    assert {cell.training.schedule.model_dump()["D_mean"] for cell in given} == {-1.5}


@pytest.mark.slow
def test_all_of_them_run_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = [f"runtime.runs={tmp_path}", "--executor=local"]
    with inline():
        launch.main(["--all", "preset=shapes", "budget=smoke", "runtime.latents=online", *where])
    out = capsys.readouterr().out
    for name in NAMES:
        cells = json.loads((tmp_path / "sweeps" / name / "sweep.json").read_text())["cells"]
        rows = [tmp_path / "evaluation" / cell["evaluation_id"] / "row.json" for cell in cells]
        assert rows and all(json.loads(row.read_text())["n"] == 8 for row in rows)
    assert "no table" not in out and out.count("written: ") == len(NAMES)
