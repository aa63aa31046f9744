"""Rows and tables of every question: what may stand side by side, what is missing, what is best."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made import CELLS, made

import analysis
from analysis import export, protocol, results, tables
from analysis.published import PUBLISHED
from lf.core.errors import UserError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every sweep, with made-up scores of three seeds."""
    place = tmp_path_factory.mktemp("made")
    for name in CELLS:
        made(place, name)
    return place


@pytest.mark.parametrize("name", CELLS)
def test_every_sweep_has_a_table_with_a_row_a_cell_and_its_own_labels(name: str, store: Path, tmp_path: Path) -> None:
    frame = analysis.load(name, store)
    assert len(frame) == 3 * len(CELLS[name]) and frame.attrs["question"].startswith(f"What does {name} ask?")
    shown = tables.table(frame)
    assert len(shown) == len(CELLS[name]) and (shown.seeds == 3).all()
    labels = {key for labels in CELLS[name] for key in labels}
    assert labels <= {*shown} and "seed" not in shown and "title" not in shown
    first = frame.head(3)
    assert shown.fd[0] == pytest.approx(first.fd.mean()) and shown.fd_sd[0] == pytest.approx(first.fd.std())
    files = {file.suffix: file.read_text() for file in tables.write(frame, tmp_path) if file.stem == "table"}
    head, rule, *rows = [line for line in files[".md"].split("\n\n")[0].splitlines()]
    assert len(rows) == len(CELLS[name]) and "FD-shapes ↓" in head and "±" in rows[0]
    assert "100 images of shapes" in files[".md"] and "over 3 training seeds" in files[".md"]
    assert files[".tex"].count(r" \\") == len(CELLS[name]) + 1 and r"\pm" in files[".tex"]
    assert len(pd.read_csv(tmp_path / "table.csv")) == len(CELLS[name])


@pytest.mark.parametrize("name", PUBLISHED)
def test_toy_rows_have_the_published_table_below_and_apart(name: str, store: Path) -> None:
    frame = analysis.load(name, store)
    own, _, published = tables.markdown(frame).partition("Published (")
    assert "ImageNet-256" in published and "not comparable" in published and "fid" in published and "fid" not in own
    assert not [column for column in tables.table(frame) if column.startswith("published")]


@pytest.mark.parametrize(
    ("name", "cell", "column", "number"),
    [
        ("order_ablation", {"latent": "pixels", "alpha": 16.0}, "published table01", 42.35),
        ("single_schedule", {"model": "offset", "guidance": "cfg"}, "published table08", 10.73),
        ("components", {"components": "no experts", "guidance": "none"}, "published table05", 12.93),
        ("latent_noise", {"latent_noise": 0.25, "length": "long"}, "published table06", 10.93),
        ("inference_noise", {"inference_noise": 0.1, "guidance": "none"}, "published table07", 11.46),
        ("distillation", {"model": "LF", "labels": "unconditional", "guidance": "cfg"}, "published table10", 13.36),
        ("distillation", {"model": "LF", "labels": "unconditional", "guidance": "cfg"}, "published table09", None),
        ("p_latent", {"p_latent": 0.8, "guidance": "cfg"}, "published table02", None),
        ("system", {"model": "LF", "guidance": "none"}, "published table11", 7.2),
    ],
)
def test_rows_of_the_published_data_have_its_number_in_a_column(
    name: str, cell: dict[str, Any], column: str, number: float | None, tmp_path: Path
) -> None:
    def on_imagenet(_: dict[str, Any], row: dict[str, Any]) -> None:
        row["data"] = "shards:/data/imagenet"

    shown = tables.table(analysis.load(name, made(tmp_path, name, (0,), on_imagenet)))
    found = shown[(shown[list(cell)] == pd.Series(cell)).all(axis=1)][column].iloc[0]
    assert found == number if number else pd.isna(found)


def changed(value: Any, *path: str) -> Any:
    def change(labels: dict[str, Any], row: dict[str, Any]) -> None:
        if labels == {"p_latent": 0.4, "guidance": "cfg", "seed": 1}:
            for key in path[:-1]:
                row = row[key]
            row[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed(50_000, "n"), "n is 100 in 17 rows"),
        (changed("ffff", "judging", "lf-judge", "reference"), 'reference is "cd20" in 17 rows'),
        (changed("ffff", "judging", "lf-judge", "weights"), 'judging.lf-judge.weights is "b904"'),
        (changed("ema2", "weights"), 'weights is "ema" in 17 rows'),
        (changed("euler", "solver"), "solver is"),
        (changed(50, "steps"), "steps is 4"),
        (changed(7, "seed"), "seed is 0"),
        (changed(2.5, "guidance", "scale", "pixels"), "guidance.scale.pixels is 1.5 in 2 rows"),
        (changed(0.3, "latent_noise"), "latent_noise is 0.0 in 2 rows"),
    ],
)
def test_what_would_mix_protocols_is_refused_by_the_field_its_values_and_the_rows(
    change: Any, said: str, tmp_path: Path
) -> None:
    frame = analysis.load("p_latent", made(tmp_path, "p_latent", change=change))
    for refused in (tables.table, tables.markdown, tables.latex):
        with pytest.raises(UserError) as error:
            refused(frame)
        assert said in str(error.value)
        assert "in 1 row (p_latent 0.4 guidance cfg seed 1)" in str(error.value)


@pytest.mark.parametrize("name", ["given", "given.tiny"])
def test_rows_of_given_streams_stand_beside_others_only_if_a_label_says_so(name: str, tmp_path: Path) -> None:
    def half_given(labels: dict, row: dict) -> None:
        if labels["p_latent"] == 0.8:
            row["given"] = {"tiny": 1.0}

    frame = analysis.load("p_latent", made(tmp_path, "p_latent", change=half_given))
    with pytest.raises(UserError, match="given.tiny is "):
        protocol.comparable(frame)
    frame.attrs["labels"].append(name)
    frame[name] = ["tiny" if p == 0.8 else None for p in frame.p_latent]
    protocol.comparable(frame)


def test_trainings_of_several_lengths_are_told_and_not_mixed_within_a_cell(tmp_path: Path) -> None:
    frame = analysis.load("latent_noise", made(tmp_path, "latent_noise"))
    longer = frame.budget.str.replace('"steps": 60', '"steps": 150')
    asked = frame.assign(budget=longer.where(frame.length == "long", frame.budget))
    assert "60 or 150 steps of 8" in tables.markdown(asked)
    slipped = frame.assign(budget=longer.where(frame.seed == 2, frame.budget))
    with pytest.raises(UserError, match="steps of training is 60 in 2 rows .* but 150 in 1 row"):
        tables.markdown(slipped)


def test_best_is_bold_only_where_it_leads_by_more_than_the_spread(tmp_path: Path) -> None:
    def apart(by: float) -> pd.DataFrame:
        def change(labels: dict[str, Any], row: dict[str, Any]) -> None:
            row["fd"] = labels["seed"] + by * (labels["components"] == "all") + 5 * (labels["guidance"] == "cfg")

        return analysis.load("components", made(tmp_path / str(by), "components", change=change))

    shown = tables.table(apart(-3.0))
    assert shown.loc[list(tables.best(shown, "fd"))][["components", "guidance"]].values.tolist() == [
        ["all", "none"],
        ["all", "cfg"],
    ], "guided and unguided do not compete"
    assert "**-2.00 ± 1.00**" in tables.markdown(apart(-3.0)) and r"\textbf{-2.00 $\pm$ 1.00}" in tables.latex(
        apart(-3.0)
    )
    pairs = tables.pairs(apart(-3.0))
    fd = pairs[(pairs.score == "fd") & (pairs.guidance == "cfg")].set_index(["better", "worse"])
    assert len(fd) == 3 == (fd.seeds == 3).sum(), "three cells, every two of them once, guided apart from unguided"
    first = fd.loc["components all"]
    assert first.ahead.tolist() == [3, 3] and first.sd.tolist() == [0, 0] and first.clear.all()
    other = fd.loc[[pair for pair in fd.index if pair[0] != "components all"][0]]
    assert other.ahead == 0 and not other.clear, "alike in every seed"
    tables.write(apart(-3.0), tmp_path)
    assert len(pd.read_csv(tmp_path / "pairs.csv")) == len(pairs)
    assert not tables.best(tables.table(apart(-1.0)), "fd"), "sd 1 each: a lead of 1 is within √2"
    assert not tables.best(tables.table(apart(-3.0)[lambda f: f.seed == 0]), "fd"), "one seed has no spread"


def test_what_is_not_done_is_missing_and_stays_so(tmp_path: Path) -> None:
    def unfinished(labels: dict[str, Any], row: dict[str, Any]) -> None:
        if labels["place"] == "tokenizer" or (labels["place"] == "block 2" and labels["seed"] == 1):
            row.clear()

    frame = analysis.load("repa_placement", made(tmp_path, "repa_placement", change=unfinished))
    assert len(frame) == 12 and frame.fd.isna().sum() == 4
    lines = {line.split("|")[1].strip(): line for line in tables.markdown(frame).splitlines() if line.startswith("|")}
    assert "missing" in lines["tokenizer"] and "missing" not in lines["block 2"]
    assert "| 2 " in lines["block 2"] and "| 3 " in lines["none"], "the number of seeds is told where it differs"

    nothing = analysis.load("repa_placement", made(tmp_path / "b", "repa_placement", change=lambda _, row: row.clear()))
    with pytest.raises(UserError, match="repa_placement: no cell is done yet"):
        tables.markdown(nothing)


def test_what_was_exported_gives_the_same_without_the_store(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    for name in ("p_latent", "diffusability"):
        there = analysis.load(name, store)
        export.export(name, store)
        here = analysis.load(name, runs=None)
        assert tables.table(here).equals(tables.table(there))
        for key in ("labels", "question", "words", "failures"):
            assert here.attrs[key] == there.attrs[key]
        assert results.configs(here, None) == results.configs(there, store)
        assert results.curves(here, None).equals(results.curves(there, store)) and len(results.curves(here, None))
        assert {*results.samples(here, None)} == {*there[there.seed == 0].evaluation_id}


def test_configs_tell_what_is_shared_from_what_is_a_cells_own(store: Path) -> None:
    frame = analysis.load("single_schedule", store)
    shared, own = results.configs(frame, store)
    assert shared["training.lr"] == 1e-3 and shared["evaluation.n"] == 100
    guided = frame[(frame.model == "cascaded") & (frame.guidance == "cfg") & (frame.seed == 1)].iloc[0]
    assert own[guided.evaluation_id]["evaluation.guidance.kind"] == "cfg"
    assert (
        own[guided.evaluation_id]["training.schedule.name"] == "cascaded"
        and own[guided.evaluation_id]["training.seed"] == 1
    )


def test_all_evaluations_of_one_training_are_a_sweep_of_what_differs(store: Path) -> None:
    whole = analysis.load("order_ablation", store)
    run = whole[(whole.model == "independent") & (whole.seed == 0)].training_id.iloc[0]
    frame = analysis.load(f"run-{run}", store)
    assert {*frame.evaluation_id} == {*whole[whole.training_id == run].evaluation_id}
    assert "path.alpha" in frame.attrs["labels"] and "solver" not in frame.attrs["labels"]
    assert len(tables.table(frame)) == len(frame)


def test_failures_are_told_with_their_unit(store: Path, tmp_path: Path) -> None:
    place = made(tmp_path, "system")
    folder = place / "jobs" / ("a" * 12)
    folder.mkdir(parents=True)
    (folder / "failure.json").write_text(json.dumps({"kind": "bug", "message": "it broke", "signature": "x"}))
    (failure,) = analysis.load("system", place).attrs["failures"]
    assert failure["unit"] == "the one that failed" and failure["message"] == "it broke"
    assert analysis.load("system", store).attrs["failures"] == []


def test_an_unknown_sweep_is_one_line_with_the_nearest(store: Path) -> None:
    with pytest.raises(UserError, match="p_latnt: no results yet; .*p_latent"):
        analysis.load("p_latnt", store)


def test_a_large_sweep_reads_each_training_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = made(tmp_path, "inference_noise")
    read, original = [], results._read
    monkeypatch.setattr(results, "_read", lambda file: read.append(file) or original(file))
    analysis.load("inference_noise", place)
    assert len(read) == len({*read})
    shutil.rmtree(place)
