"""A launch does what is missing and nothing else, whatever happened to the one before; here in one process."""

import shutil
from pathlib import Path

import pytest
from order import CELLS, NAME, SWEEP, rows, runs_of, scores, table_of
from toy import files

from analysis import report, results
from sweeps import launch


def test_a_launch_does_all_cells_and_again_it_computes_nothing(
    launched: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    place, first = launched
    assert len(rows(place)) == CELLS and len(rows(place, "training")) == 4
    assert table_of(place) in first and "8 jobs done, 0 failed" in first
    before, submitted = runs_of(place), sorted((place / "jobs").iterdir())
    launch.main([*SWEEP, f"runtime.runs={place}"])
    out = capsys.readouterr().out
    assert "0 jobs done, 0 failed" in out
    assert runs_of(place) == before and sorted((place / "jobs").iterdir()) == submitted
    assert table_of(place) in out, "the same table"


def test_one_cell_is_run_in_this_process_and_nothing_else(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = results.load(NAME, copy).set_index("model").loc["pixel_only"]
    done = scores(copy)
    shutil.rmtree(copy / "training" / row.training_id)
    for name in done:
        shutil.rmtree(copy / "evaluation" / name)
    before = files(copy / "sweeps"), (copy / "jobs").exists()
    capsys.readouterr()
    launch.main([*SWEEP, "--local", "pixel_only", f"runtime.runs={copy}"])
    assert f'"id": "{row.evaluation_id}"' in capsys.readouterr().out
    assert scores(copy) == {row.evaluation_id: done[row.evaluation_id]}, "the same to the last bit"
    assert (files(copy / "sweeps"), (copy / "jobs").exists()) == before, "nothing is submitted"


def test_a_cell_that_fails_is_named_and_the_others_finish(
    done: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = results.load(NAME, copy)
    for model in ("cascaded", "pixel_only"):
        row = frame[frame.model == model].iloc[0]
        shutil.rmtree(copy / "evaluation" / row.evaluation_id)
        shutil.rmtree(copy / "training" / row.training_id)
        if model == "cascaded":
            harmed = copy / "training" / row.training_id / "checkpoint.safetensors"
            harmed.parent.mkdir()
            harmed.write_bytes(b"garbage")

    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        launch.main([*SWEEP, f"runtime.runs={copy}"])
    out = capsys.readouterr().out
    assert stop.value.code == 1, out
    failed = [line for line in out.splitlines() if line.startswith("failed: ")]
    assert (
        len(failed) == 1 and "train tiny cascaded seed 0" in failed[0] and "user: cannot read checkpoint" in failed[0]
    )
    assert [line for line in out.splitlines() if line.startswith("blocked: evaluate tiny cascaded seed 0")]
    assert any(line.startswith("done") and "pixel_only" in line for line in out.splitlines())
    assert "2 jobs done, 2 failed" in out and harmed.read_bytes() == b"garbage"
    assert len(rows(copy)) == CELLS - 1
    (missing,) = [line for line in table_of(copy).splitlines() if "missing" in line]
    assert table_of(copy) in out and missing.split()[:3] == ["tiny", "cascaded", "cascaded"]
    assert scores(copy).items() < scores(done).items()


@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_a_torn_row_costs_its_own_unit_and_a_line(
    kind: str, done: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = copy / kind / results.load(NAME, copy).iloc[0][f"{kind}_id"] / "row.json"
    torn.write_bytes(b"")
    before = runs_of(copy)
    capsys.readouterr()
    launch.main([*SWEEP, f"runtime.runs={copy}"])
    out, err = capsys.readouterr()
    assert "1 jobs done, 0 failed" in out and err.count(f"warning: {torn}: is empty; it counts as missing") == 1
    after = runs_of(copy)
    assert {name for name in after if name.endswith("row.json") and after[name] != before[name]} == {
        f"{kind}/{torn.parent.name}/row.json"
    }
    assert scores(copy) == scores(done)


def test_cells_that_are_forced_are_run_again_to_the_same_scores(done: Path, copy: Path) -> None:
    before = runs_of(copy)
    launch.main([*SWEEP, "--force", "--only", "pixel_only", f"runtime.runs={copy}"])
    after = runs_of(copy)
    again = [name for name in before if name.endswith("/row.json") and after[name] != before[name]]
    assert sorted(name.partition("/")[0] for name in again) == ["evaluation", "training"]
    kept = {name.split("/")[1].partition(".")[0] for name in after if "." in name.split("/")[1]}
    assert kept == {name.split("/")[1] for name in again}, "what was there is put aside"
    assert {name: scores(copy)[name] for name in scores(done)} == scores(done)


def test_a_report_that_fails_is_said_and_the_launch_failed(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "show", full)
    with pytest.raises(SystemExit) as stop:
        launch.main([*SWEEP, f"runtime.runs={copy}"])
    out = capsys.readouterr().out
    assert stop.value.code == 1 and "no table or report: OSError" in out and "0 jobs done, 0 failed" in out
