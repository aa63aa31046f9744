"""Torn, empty and strange JSON files cost what they described, and one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from toy import PLAIN, WORDS, refusal, training

from lf import evaluate
from lf.core.errors import UserError
from lf.runs import training_run
from lf.storage.atomic import replace
from lf.storage.json_files import read_json
from lf.train import train
from sweeps.jobs import records, state
from sweeps.search.guidance import GuidanceSearch, GuidanceSpace
from sweeps.search.trials import Trials

TORN: dict[str, bytes] = {
    "empty": b"",
    "cut": b'{"id": "0123", "lo',
    "zeros": b"\0" * 300,
    "list": b"[1, 2]",
    "text": b'"id"',
    "null": b"null",
    "other": b"{}",
    "deep": b"[" * 100_000,
    "bytes": b"\xff\xfe\x00{",
}


@pytest.mark.parametrize("harm", TORN)
def test_a_torn_file_is_missing_and_named_once(harm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "row.json"
    file.write_bytes(TORN[harm])
    assert read_json(file, "id") is None and read_json(file, "id") is None
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {file}: is ") and said.count("\n") == 1


def test_a_whole_file_or_none_needs_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_json(tmp_path / "row.json") is None and read_json(tmp_path / "row.json" / "below") is None
    replace(tmp_path / "row.json", '{"id": 1, "other": NaN}')
    assert read_json(tmp_path / "row.json", "id") is not None and read_json(tmp_path / "row.json" / "x") is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("harm", ["empty", "list", "other"])
def test_a_training_whose_row_is_torn_ends_again_with_the_same_row(
    harm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = training(f"runtime.runs={tmp_path}")
    before, run = train(config), training_run(config)
    (run.folder / "row.json").write_bytes(TORN[harm])
    (run.folder / "config.json").write_bytes(TORN[harm if harm != "other" else "list"])
    assert run.row is None and run.state == "begun"
    after = train(config)
    assert {**after, "seconds": 0, "seconds_per_step": 0} == {**before, "seconds": 0, "seconds_per_step": 0}
    assert after["seconds"] > before["seconds"], "the first leg counts, too"
    assert after["seconds_per_step"] == pytest.approx(after["seconds"] / config.steps)
    assert json.loads((run.folder / "config.json").read_text()) == run.config
    assert capsys.readouterr().err.count(f"warning: {run.folder / 'row.json'}: is ") == 1


def test_a_folder_named_as_a_row_is_a_line_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lf.train import main

    run = training_run(training(f"runtime.runs={tmp_path}"))
    (run.folder / "row.json").mkdir(parents=True)
    assert run.row is None and "is a directory" in capsys.readouterr().err
    said = refusal(main, [*WORDS, *PLAIN, f"runtime.runs={tmp_path}"], capsys)
    assert said == f"error: {run.folder / 'row.json'}: is a folder; remove it\n"


@pytest.mark.parametrize("harm", TORN)
def test_a_config_that_is_torn_is_a_line(harm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "training" / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(TORN[harm])
    said = refusal(evaluate.main, ["run=0123456789ab", f"runtime.runs={tmp_path}"], capsys)
    assert str(folder) in said


UNIT: dict[str, Any] = {
    "key": "train-1", "kind": "train", "title": "one", "training": "1", "rows": ["training/1/row.json"],
    "after": "", "steps": 10,
}  # fmt: skip


@pytest.mark.parametrize("harm", [*TORN, "folder"])
@pytest.mark.parametrize("name", ["job.json", "failure.json", "attempts.jsonl"])
def test_a_torn_record_counts_as_none(harm: str, name: str, tmp_path: Path) -> None:
    sweep, folder = tmp_path / "sweeps" / "some", tmp_path / "jobs" / "train-1"
    folder.mkdir(parents=True)
    if harm == "folder" and name != "attempts.jsonl":
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(TORN.get(harm, b"[]\n7\n"))
    assert state.states(sweep, [UNIT], {})["train-1"].name == "new"
    records.record_attempt(folder, began=3)
    assert records.attempts(folder)[-1] == {"began": 3} and state.times_lost(folder, 0) == 1


@pytest.mark.parametrize("harm", TORN)
def test_a_torn_row_is_not_done_and_torn_progress_says_nothing(harm: str, tmp_path: Path) -> None:
    sweep, folder = tmp_path / "sweeps" / "some", tmp_path / "training" / "1"
    folder.mkdir(parents=True)
    (folder / "row.json").write_bytes(TORN[harm])
    (folder / "progress").write_bytes(TORN[harm])
    replace(sweep / "held.json", "")
    job = {"job": "5", "on": "slurm", "host": "x", "at": 0}
    replace(tmp_path / "jobs" / "train-1" / "job.json", json.dumps(job))
    assert state.states(sweep, [UNIT], {"5": "RUNNING"})["train-1"] == state.State("running")
    replace(folder / "row.json", '{"id": "1"}')
    assert state.states(sweep, [UNIT], {})["train-1"].name == "done"


@pytest.mark.parametrize("harm", TORN)
def test_a_torn_manifest_says_what_to_do(harm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sweeps import status

    sweep = tmp_path / "sweeps" / "some"
    sweep.mkdir(parents=True)
    (sweep / "sweep.json").write_bytes(TORN[harm])
    said = refusal(status.main, ["some", f"runs={tmp_path}"], capsys)
    assert f"{sweep / 'sweep.json'}: is " in said and "; launch the sweep again" in said


@pytest.mark.parametrize("harm", ["garbage\n", "[]\n", '{"op_code": 0, "stu\n'])
def test_a_damaged_journal_of_a_search_is_a_line(harm: str, tmp_path: Path) -> None:
    config = training(f"runtime.runs={tmp_path}")
    train(config)
    space = GuidanceSpace(GuidanceSearch(), training_run(config))
    Trials(space, tmp_path)
    (journal,) = tmp_path.glob("sweeps/*/study.journal")
    with journal.open("a") as file:
        file.write(harm)
    with pytest.raises(UserError, match=f"{journal}: is damaged; remove it, and finished evaluations are reused"):
        Trials(space, tmp_path)
