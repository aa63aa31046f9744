"""What is committed is not lost by accident: an export refuses to, and nothing else writes into results/."""

import json
from pathlib import Path
from typing import Any

import pytest
from made import CELLS, made

import analysis
from analysis import export, findings, results, tables
from lf.core.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder's ``results/p_latent``, exported with three seeds."""
    monkeypatch.chdir(tmp_path)
    return export.export("p_latent", made(tmp_path / "runs", "p_latent")).absolute()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def one_image_more(_: dict[str, Any], row: dict[str, Any]) -> None:
    row["n"] += 1


def unfinished(labels: dict[str, Any], row: dict[str, Any]) -> None:
    if labels["p_latent"] == 0.4:
        row.clear()


@pytest.mark.parametrize(
    ("seeds", "change", "words", "said"),
    [
        ((0,), None, {}, "no seed 1, seed 2"),
        ((0, 1, 2), unfinished, {}, r"6 cells missing \(p_latent 0.4 guidance none seed 0, .* and 3 more\)"),
        ((0, 1, 2), one_image_more, {}, r"another protocol \(n 100→101\)"),
        ((0, 1, 2), None, {"steps": 6}, r"another budget \(steps of training 60→6\)"),
    ],
)
def test_fewer_rows_or_others_are_refused_and_nothing_is_changed(
    seeds: tuple[int, ...], change: Any, words: dict[str, Any], said: str, folder: Path, tmp_path: Path
) -> None:
    before = contents(folder)
    other = made(tmp_path / "other", "p_latent", seeds, change, **words)
    with pytest.raises(UserError, match=f"its 18 rows are not replaced: {said}.*--force"):
        export.export("p_latent", other)
    assert contents(folder) == before
    export.export("p_latent", other, force=True)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == len(CELLS["p_latent"]) * len(seeds)
    assert {name for name in before if name.startswith("samples/")} <= {*contents(folder)}, "nothing is deleted"


def test_more_seeds_and_the_same_again_are_exported(folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    export.export("p_latent", Path("runs"))
    assert contents(folder) == before
    export.main(["p_latent", str(made(tmp_path / "more", "p_latent", (0, 1, 2, 3)))])
    assert len((folder / "rows.jsonl").read_text().splitlines()) == 24


def test_images_of_an_evaluation_that_was_replaced_go(folder: Path) -> None:
    file = Path("runs/sweeps/p_latent/sweep.json")
    old = json.loads(file.read_text())["cells"][0]["evaluation_id"]
    Path(f"runs/evaluation/{old}").rename("runs/evaluation/again")
    file.write_text(file.read_text().replace(old, "again"))
    export.export("p_latent", Path("runs"))
    there = {name for name in contents(folder) if name.startswith("samples/")}
    assert "samples/again.safetensors" in there and f"samples/{old}.safetensors" not in there


def test_only_the_word_results_writes_there(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(folder)
    tables.main(["p_latent"])
    tables.main(["order_ablation"])  # not in this store: the rows that came with the package
    assert contents(folder) == before and not (tmp_path / "results" / "order_ablation").exists()
    assert {"p_latent-seeds-0-2", "order_ablation"} <= {
        place.name for place in (tmp_path / "runs" / "reports").iterdir()
    }
    tables.main(["p_latent", "results"])
    assert (folder / "table.md").read_text() == (tmp_path / "runs/reports/p_latent-seeds-0-2/table.md").read_text()
    with pytest.raises(UserError, match="rnus: no such run store"):
        tables.main(["p_latent", "rnus"])
    assert not Path("rnus").exists()


def test_a_torn_row_is_missing_and_a_torn_manifest_is_one_line(folder: Path) -> None:
    first = analysis.load("p_latent").iloc[0]
    Path(f"runs/evaluation/{first.evaluation_id}/row.json").write_text("")
    frame = analysis.load("p_latent")
    assert frame.fd.isna().tolist() == [True] + [False] * 17
    Path("runs/sweeps/p_latent/sweep.json").write_text('{"cells": [')
    assert analysis.load("p_latent").attrs["runs"] == "", "what is committed"


@pytest.mark.parametrize("steps", [6, 60])
def test_a_smoke_run_says_that_it_means_nothing(steps: int, tmp_path: Path) -> None:
    def few(_: dict[str, Any], row: dict[str, Any]) -> None:
        row["n"] = 100 if steps < 10 else 8

    said = findings.findings(analysis.load("p_latent", made(tmp_path, "p_latent", change=few, steps=steps)))
    assert len(said) == 1 and "its numbers mean nothing" in said[0] and f"{steps} steps" in said[0]


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_every_seed_is_said_of_several(seeds: tuple[int, ...], tmp_path: Path) -> None:
    said = findings.findings(analysis.load("order_ablation", made(tmp_path, "order_ablation", seeds)))
    assert ("in every seed" in said[0]) == (len(seeds) > 1)


def test_the_same_images_at_two_paths_share_a_table_and_others_do_not(tmp_path: Path) -> None:
    def of(digest: str) -> Any:
        def change(labels: dict[str, Any], row: dict[str, Any]) -> None:
            row |= {"data": f"folder:/{labels['seed']}/good", "data_digest": digest or str(labels["seed"])}

        return change

    frame = analysis.load("p_latent", made(tmp_path / "a", "p_latent", change=of("d" * 16)))
    assert "100 images of folder" in tables.markdown(frame)
    shapes = results._protocol({"data": "shapes", "data_digest": "d"})
    assert shapes["data"] == "shapes" and "data_digest" not in shapes, "committed rows stay as they are"
    with pytest.raises(UserError, match="data_digest is"):
        tables.markdown(analysis.load("p_latent", made(tmp_path / "b", "p_latent", change=of(""))))
