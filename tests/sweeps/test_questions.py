"""The paper's questions: every sweep is one that both presets can plan, and on `shapes` each runs end to end."""

import json
from pathlib import Path

import pytest
from inline import inline
from matplotlib.figure import Figure

from analysis import report
from lf.core.errors import UserError
from sweeps import launch
from sweeps.launch import settings
from sweeps.questions import questions, specialisation

NAMES = sorted(questions())


def test_every_question_of_the_paper_has_a_sweep() -> None:
    assert NAMES == [
        "attribution", "components", "conditioning_order", "diffusability", "distillation", "inference_noise",
        "latent_noise", "lead", "order_ablation", "p_latent", "p_mean_d_mean", "repa_placement", "single_schedule",
        "specialisation", "system",
    ]  # fmt: skip


@pytest.mark.parametrize("words", [["preset=shapes"], ["preset=imagenet256", "data=folder:x", "guide=abc"]])
@pytest.mark.parametrize("name", NAMES)
def test_its_cells_differ_and_a_guided_one_has_an_unguided_one_beside_it(
    name: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lf.data.digest", lambda *_: "any")  # of images that are not there
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


def test_every_order_of_up_to_three_streams_is_trained_and_sampled() -> None:
    cells = list(questions()["conditioning_order"].cells(settings([])))
    orders = {}
    for cell in cells:
        if cell.labels["guidance"] == "none":
            orders.setdefault((cell.labels["latents"], cell.labels["model"]), []).append(cell.labels["order"])
        assert len(cell.run.path) == 25 and cell.run.path[-1].eq(1).all()  # type: ignore[attr-defined]
    assert {len(found) for (latents, _), found in orders.items() if " and " in latents} == {7}
    assert {len(found) for (latents, _), found in orders.items() if " and " not in latents} == {3}
    assert len({cell.trained.id for cell in cells}) == 3 + 1 + 7 + 1


def test_the_trainings_of_lead_are_those_of_order_ablation() -> None:
    of = {name: {c.trained.id for c in questions()[name].cells(settings([]))} for name in ("lead", "order_ablation")}
    assert of["lead"] < of["order_ablation"] and len(of["lead"]) == 1


def test_what_attribution_gives_is_told_by_a_label() -> None:
    for words in ([], ["preset=imagenet256", "data=shards:x", "evaluation.given_data=shards:y"]):
        for cell in questions()["attribution"].cells(settings(words)):
            given = cell.labels["given"] != "no"
            assert cell.evaluation.given == ({cell.labels["latent"]: 1 - cell.labels["noise"]} if given else {})
            assert bool(cell.evaluation.given_data) == (given and bool(words))
            assert cell.evaluation.latent_noise == (0 if given else cell.labels["noise"])


def _small(figures: dict[str, Figure], folder: Path) -> list[Path]:
    """Writes figures in less detail, and no PDF: of all questions, that takes a minute."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=40)
    return [folder / f"{name}.png" for name in figures]


@pytest.mark.slow
def test_all_of_them_run_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "write_figures", _small)
    monkeypatch.setattr(specialisation, "SHARES", (0.2,))  # of six steps, most shares are one step
    monkeypatch.setattr(specialisation, "ORDERS", {o: specialisation.ORDERS[o] for o in ("cascaded", "together")})
    where = [f"runtime.runs={tmp_path}", "--executor=local"]
    with inline():
        launch.main(["--all", "preset=shapes", "budget=smoke", "runtime.latents=online", *where])
    out = capsys.readouterr().out
    for name in NAMES:
        cells = json.loads((tmp_path / "sweeps" / name / "sweep.json").read_text())["cells"]
        rows = [tmp_path / "evaluation" / cell["evaluation_id"] / "row.json" for cell in cells]
        assert rows and all(json.loads(row.read_text())["n"] == 8 for row in rows)
    assert "no table" not in out and out.count("report: ") == len(NAMES)
