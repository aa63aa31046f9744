"""What a report says, and where: as in a paper, and only what applies."""

from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest
import torch
from made import made

import analysis
from analysis import captions, figures, page, results, tables
from analysis.figures import probe, schedules
from analysis.scores import SCORES

matplotlib.use("agg")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("made"), "order_ablation")


@pytest.fixture(scope="module")
def whole(place: Path) -> str:
    return page.page(analysis.load("order_ablation", place), place)


def test_question_comparison_findings_and_table_come_in_this_order(whole: str) -> None:
    parts = [
        "<h1>What does order_ablation ask?</h1>",
        "13 cells that differ in",
        ">What came out<",
        ">Table<",
        ">Figures<",
    ]
    places = [whole.index(part) for part in parts]
    assert places == sorted(places)
    assert "<code>latent</code>, <code>model</code> and <code>path</code>, over 3 training seeds, by FD-shapes" in whole
    assert "judge of shapes (lower is better). Also shown: agreement" in whole
    assert "<b>Figure 1.</b> FD-shapes (lower is better) of one network" in whole


def test_a_docstring_becomes_paragraphs_and_code() -> None:
    text = "\n    python -m x\n    python -m y\n\nOne ``model`` & `a < b`,\nat once.\n\nPublished: 5."
    paragraphs, blocks = page.prose(text)
    assert paragraphs == ["One <code>model</code> &amp; <code>a &lt; b</code>, at once.", "Published: 5."]
    assert blocks == ["    python -m x\n    python -m y"]


def test_the_table_names_the_runs_of_each_row(whole: str, place: Path) -> None:
    frame = analysis.load("order_ablation", place)
    first = frame.head(3)  # three seeds
    for kind in ("training", "evaluation"):
        assert f'title="{kind} {" ".join(first[f"{kind}_id"])}"' in whole
        assert f">{' '.join(name[:6] for name in first[f'{kind}_id'])} </td>" in whole
    assert len(tables.identities(frame)) == len(frame) / 3
    assert f"training {first.training_id.iloc[0]}\n" in whole, "in full among the configs"


def test_the_foot_has_version_licence_revision_and_commands(whole: str, place: Path) -> None:
    foot = whole[whole.index("<footer") :]
    assert f"{page.version()}, code {page.revision()}" in foot and "MIT licence" in foot
    assert "python -m sweeps.launch order_ablation &#39;seeds=[0,1,2]&#39;" in foot
    assert f"python -m analysis.report order_ablation-seeds-0-2 {place}" in foot
    assert page.commands(analysis.load("p_latent", None)) == ["python -m analysis.report p_latent results"]


@pytest.mark.parametrize(
    ("seeds", "apart", "star", "spread"), [((0,), 0, False, False), ((0, 1), 0, False, True), ((0, 1), 9, True, True)]
)
def test_signs_are_explained_only_where_they_are(
    seeds: tuple[int, ...], apart: float, star: bool, spread: bool, tmp_path: Path
) -> None:
    def change(labels: dict[str, Any], row: dict[str, Any]) -> None:
        row |= {"fd": 20.0 + labels["seed"] - apart * (labels["place"] == "block 0"), "agreement": 0.5}
        row.pop("class_accuracy")

    store = made(tmp_path, "repa_placement", seeds, change)
    said = page.page(analysis.load("repa_placement", store), store)
    assert ("★:" in said) == star and (">★ " in said) == star
    assert ("± is the standard deviation" in said) == spread and ("Bars are ±" in said) == spread
    assert ("how much of a difference is chance" in said) == (not spread)
    assert "reads as asked" not in said, "there is no score of the class"


def test_the_slider_starts_at_the_end_and_names_network_streams_and_times(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [(f"t pixels {t:.2f}, t tiny 1.00", torch.full((12, 3, 4, 4), 9, dtype=torch.uint8)) for t in (0, 0.5, 1)]
    monkeypatch.setattr(probe, "film", lambda *_: frames)
    monkeypatch.setattr(probe, "filmed", lambda *_: ("independent with tiny, seed 0", ["pixels", "tiny"]))
    shown = page.slider(analysis.load("order_ablation", place), place)
    assert shown["start"] == 2 and shown["streams"] == ["pixels", "tiny"]
    assert [len(frame["rows"]) for frame in shown["frames"]] == [2, 2, 2]
    assert shown["frames"][2]["label"] == "Frame 3 of 3, independent with tiny, seed 0: t pixels 1.00, t tiny 1.00"
    said = page.page(analysis.load("order_ablation", place), place, figures={"samples": page_png()})
    assert (
        'max="2" value="2" autocomplete="off"' in said and f'id="label">{shown["frames"][2]["label"]}</label>' in said
    )


def page_png() -> bytes:
    return figures.png(matplotlib.figure.Figure(figsize=(1, 1)))


@pytest.mark.parametrize("committed", [False, True])
def test_a_path_has_one_colour_in_all_figures(committed: bool, place: Path) -> None:
    runs = None if committed else place
    frame = analysis.load("order_ablation", runs)
    drawn = figures.draw(frame, runs)
    paths = {line.get_label(): line.get_color() for line in drawn["paths"].axes[0].lines}
    assert len({str(colour) for colour in paths.values()}) == len(paths) == (8 if committed else 6)
    (cascaded,) = (line for line in drawn["alpha"].axes[0].lines if str(line.get_label()).startswith("trained casc"))
    assert cascaded.get_color() == paths["cascaded"]
    trained = {line.get_label(): line.get_color() for line in drawn["training"].axes[0].lines}
    assert trained["tiny, cascaded"] == paths["cascaded"] not in (trained["tiny, independent"],)
    assert trained["none, pixel_only"] == schedules.ALONE
    panels = {ax.child_axes[0].get_title(): ax for ax in drawn["densities"].axes if ax.child_axes}
    assert panels["cascaded"].lines[0].get_color() == paths["cascaded"]


def test_trainings_for_one_path_keep_different_colours() -> None:
    frame = analysis.load("p_latent", None)
    assert len(schedules.colours(frame, None)) == 1 and not schedules.colours_of_trainings(frame, None)
    drawn = figures.draw(frame, None)["training"]
    assert len({str(line.get_color()) for line in drawn.axes[0].lines}) == len(drawn.axes[0].lines) == 4


def test_a_search_compares_trials() -> None:
    frame = analysis.load(results.committed_names("guidance-*")[0], None)
    assert captions.compared(frame).startswith(f"{len(frame)} trials that differ in `scale.pixels` and `scale.tiny`, ")
    assert all(captions.to_see(name, frame) for name in figures.draw(frame, None))


def test_every_score_has_a_meaning(place: Path) -> None:
    frame = analysis.load("order_ablation", place)
    assert all(captions.meaning(score, frame) for score in SCORES)


def test_a_training_of_one_point_has_no_curve(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis.figures import scores

    frame = analysis.load("order_ablation", place)
    one = pd.DataFrame([(frame.training_id[0], 6, "loss", 1.0)], columns=["training_id", "step", "name", "value"])
    monkeypatch.setattr(scores, "curves", lambda *_: one)
    assert scores.training_curves(frame, place, {}) is None
