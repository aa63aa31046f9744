"""`python -m lf.runs`: what a store holds, in words; and how a run is named."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lf.core.errors import UserError
from lf.core.runtime import Runtime
from lf.runs import __main__ as command
from lf.runs import find_training
from lf.runs.listing import entries
from lf.runs.words import grouped, meant


def test_every_run_is_listed_with_what_it_is(runs: Path) -> None:
    found = {entry.id: entry for entry in entries(runs)}
    assert len(found) == 48
    trained, stopped = found["9805cd56f318"], found["24c2b4b6f5b3"]
    assert (trained.what, trained.data, trained.state, trained.evaluations) == (
        "cascaded tiny seed 0", "digits", "done", 4,
    )  # fmt: skip
    assert trained.cells == ("order_ablation: tiny cascaded seed 0 cascaded",)
    assert (stopped.state, stopped.step, stopped.steps, stopped.scores) == ("begun", 400, 1500, {})
    rows = [json.loads(file.read_text()) for file in (runs / "evaluation").glob("*/row.json")]
    assert trained.scores == {"FD-digits": min(row["fd"] for row in rows if row["training"] == trained.id)}
    assert trained.bytes == sum(file.stat().st_size for file in trained.folder.iterdir())
    scored = found["2d480d23b468"]
    assert (scored.kind, scored.what, scored.needs) == (
        "evaluation", "shifted alpha 0.0625 of independent pixels_latent seed 1", ("e3f9cbfaa3d7",),
    )  # fmt: skip
    assert scored.data == "digits" and scored.scores == {"FD-digits": pytest.approx(41.7276, abs=1e-3)}


def test_json_has_every_field_of_every_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--json", f"runs={runs}"])
    found = {entry["id"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert len(found) == 48
    assert found["24c2b4b6f5b3"]["steps"] == 1500 and found["24c2b4b6f5b3"]["folder"].endswith("24c2b4b6f5b3")


@pytest.mark.parametrize(
    ("words", "number"),
    [(["tiny"], 4), (["tiny", "cascaded"], 2), (["cascaded", "seed", "1"], 1), (["begun"], 1), (["9805"], 1),
     (["order_ablation"], 8), (["seed 7"], 1), (["alpha", "4", "--all"], 4), (["digits"], 9)],
)  # fmt: skip
def test_words_choose_runs(words: list[str], number: int, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main([*words, f"runs={runs}"])
    assert len(capsys.readouterr().out.splitlines()) == number + 2


def test_the_listing_fits_80_columns(runs: Path) -> None:
    """On a terminal, whose width is what COLUMNS says."""
    env = {**os.environ, "COLUMNS": "80"}
    code = "import sys; sys.stdout.isatty = lambda: True; from lf.runs.__main__ import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", code, "--all", f"runs={runs}"]
    out = subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout
    lines = re.sub(r"\x1b\[[\d;]*m", "", out).splitlines()
    assert max(map(len, lines)) <= 80 and lines[0].split() == ["run", "what", "state", "steps", "best", "size", "age"]


@pytest.mark.parametrize(
    "name",
    ["9805cd56f318", "9805", "order_ablation: tiny cascaded seed 0", "cascaded tiny seed 0",
     "tiny, cascaded, seed 0, order_ablation"],
)  # fmt: skip
def test_a_run_is_found_by_prefix_by_words_and_by_its_cell(name: str, runs: Path) -> None:
    found = find_training(name, Runtime(runs=str(runs)))
    assert found.id == "9805cd56f318" and found.folder == runs / "training" / found.id


def test_the_cell_of_one_path_is_the_training_that_is_sampled_along_it(runs: Path) -> None:
    found = find_training("order_ablation: tiny independent seed 1 shifted alpha 1/16", Runtime(runs=str(runs)))
    assert found.id == "6328bde4f5d4"


@pytest.mark.parametrize(
    ("name", "said"),
    [("tiny", r"not one run but 4: \w{12} \(.* and 1 more"), ("tiny cascaded seed 8", "no such training run"),
     ("", "no such training run"), ("order_ablation: tiny", "not one run but 4")],
)  # fmt: skip
def test_a_name_of_none_or_of_several_runs_is_one_line(name: str, said: str, runs: Path) -> None:
    with pytest.raises(UserError, match=said):
        find_training(name, Runtime(runs=str(runs)))


def test_words_are_whole_words_and_numbers_are_values() -> None:
    assert meant("alpha 1/4", ["shifted alpha 0.25"]) and not meant("alpha 4", ["alpha 16", "alpha 0.25"])
    assert grouped(["alpha", "4", "tiny", "seed", "0"]) == ["alpha 4", "tiny", "seed 0"]
    assert grouped(["9805"]) == ["9805"]


def test_damaged_files_cost_their_own_entry(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "training" / "9805cd56f318" / "config.json").write_text("{")
    (runs / "sweeps" / "order_ablation" / "sweep.json").write_text("")
    command.main([f"runs={runs}"])
    out, said = capsys.readouterr()
    assert len(out.splitlines()) == 11 and said.count("warning:") == 2


def test_no_store_and_no_such_run_are_one_line(runs: Path) -> None:
    with pytest.raises(UserError, match="no such run store"):
        command.main([f"runs={runs}/missing"])
    with pytest.raises(UserError, match="casaded: no such run"):
        command.main(["casaded", f"runs={runs}"])
