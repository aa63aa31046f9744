"""`lf.runs rm` and `gc` remove what was asked for, and never what another run needs."""

import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from lf.core.errors import UserError
from lf.core.runtime import Runtime
from lf.runs import __main__ as command
from lf.runs import find_training
from lf.runs.listing import entries
from lf.storage import verified
from lf.storage.lease import lease

CASCADED, STOPPED = "9805cd56f318", "24c2b4b6f5b3"


def ids(runs: Path) -> set[str]:
    return {entry.id for entry in entries(runs)}


def test_a_training_that_an_evaluation_needs_stays(runs: Path) -> None:
    before = ids(runs)
    with pytest.raises(UserError, match=f"{CASCADED}: is needed by 4 evaluations.*--evaluations"):
        command.main(["rm", CASCADED[:5], f"runs={runs}"])
    assert ids(runs) == before


def test_its_evaluations_go_with_it_if_asked_for(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = ids(runs)
    words = ["rm", CASCADED[:5], "--evaluations", f"runs={runs}"]
    command.main([*words, "--dry-run"])
    assert ids(runs) == before and "nothing was" in capsys.readouterr().out
    command.main(words)
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 6 and CASCADED in out[0]
    assert CASCADED not in ids(runs) and len(before - ids(runs)) == 5
    assert not list(runs.glob("*/.removed*"))


def test_a_guide_of_anothers_evaluation_stays(runs: Path) -> None:
    file = next(iter((runs / "evaluation").glob("*/config.json")))
    file.write_text(file.read_text().replace('"guide": ""', f'"guide": "{STOPPED}"'))
    with pytest.raises(UserError, match=f"{STOPPED}: is needed by 1 evaluations"):
        command.main(["rm", STOPPED, "--evaluations", f"runs={runs}"])


def test_a_running_training_stays(runs: Path) -> None:
    with lease(runs / "training" / STOPPED / "lock"), pytest.raises(UserError, match=f"{STOPPED}: is running"):
        command.main(["rm", STOPPED, f"runs={runs}"])
    command.main(["rm", STOPPED, f"runs={runs}"])
    assert STOPPED not in ids(runs)


@pytest.mark.parametrize(("words", "said"), [(["rm"], "which runs"), (["rm", "nothing"], "no such run"),
                                             (["gc", "tiny"], "takes no words")])  # fmt: skip
def test_what_removes_nothing_says_so(words: list[str], said: str, runs: Path) -> None:
    with pytest.raises(UserError, match=said):
        command.main([*words, f"runs={runs}"])


def test_gc_removes_what_no_run_needs_and_nothing_else(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained, stopped = (runs / "training" / name for name in (CASCADED, STOPPED))
    find_training(STOPPED, Runtime(runs=str(runs)))
    archived = trained.with_name(f"{CASCADED}.20261125-101112")
    archived.mkdir()
    never = runs / "evaluation" / "abcdefabcdef"
    never.mkdir()
    (never / "config.json").write_text("{}")
    for folder in (trained, stopped):
        verified.write(folder / "previous.safetensors", {"raw.x": torch.ones(3)}, {"step": "1"})
    (trained / "next.safetensors.1f").write_bytes(b"half")
    half = runs / "training" / ".removed.0123456789ab"
    half.mkdir()
    gone = {archived, never, trained / "previous.safetensors", trained / "next.safetensors.1f", half}
    before = {file for file in runs.rglob("*") if file.name not in ("lock", "config.json")}
    command.main(["gc", "--dry-run", f"runs={runs}"])
    assert all(str(path) in capsys.readouterr().out or path.exists() for path in gone)
    command.main(["gc", f"runs={runs}"])
    after = {file for file in runs.rglob("*") if file.name not in ("lock", "config.json")}
    assert before - after == gone and (stopped / "previous.safetensors").exists()


def test_the_previous_checkpoint_stays_where_the_last_one_is_damaged(runs: Path) -> None:
    folder = runs / "training" / CASCADED
    verified.write(folder / "previous.safetensors", {"raw.x": torch.ones(3)}, {"step": "1"})
    verified.write(folder / "checkpoint.safetensors", {"raw.x": torch.ones(300)}, {"step": "1"})
    content = bytearray((folder / "checkpoint.safetensors").read_bytes())
    content[-40:-20] = bytes(20)
    (folder / "checkpoint.safetensors").write_bytes(content)
    command.main(["gc", f"runs={runs}"])
    assert (folder / "previous.safetensors").exists()


def test_a_removal_that_is_killed_leaves_a_whole_run_or_none(runs: Path) -> None:
    """It is killed between renaming and deleting; what it left is removed by gc."""
    code = (
        "import os, shutil, signal, sys; import lf.runs.removal as r;"
        "shutil.rmtree = lambda _: os.kill(os.getpid(), signal.SIGKILL);"
        "from lf.runs.__main__ import main; main(sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", code, "rm", STOPPED, f"runs={runs}"], env={**os.environ})
    assert done.returncode == -signal.SIGKILL and STOPPED not in ids(runs)
    command.main(["gc", f"runs={runs}"])
    assert not list(runs.glob("training/.removed*"))


@pytest.mark.parametrize("how", ["done", "begun", "new", "running"])
def test_a_trunk_stays_while_a_training_must_begin_with_its_weights(how: str, runs: Path) -> None:
    folder = runs / "training" / "abcdefabcdef"
    folder.mkdir()
    config = {"schedule": {"name": "shifted"}, "init": {"name": "x"}, "contents": {"init.name": STOPPED}}
    (folder / "config.json").write_text(json.dumps(config))
    if how == "done":
        (folder / "row.json").write_text('{"id": "abcdefabcdef"}')
    if how == "begun":
        verified.write(folder / "checkpoint.safetensors", {"raw.x": torch.ones(3)}, {"step": "1"})
    with lease(folder / "lock") if how == "running" else nullcontext():
        if how in ("done", "begun"):
            command.main(["rm", STOPPED, f"runs={runs}"])
            return
        said = f"{STOPPED}: is needed by 1 trainings, such as abcdefabcdef .shifted seed 0 warm start.; .*begin first"
        with pytest.raises(UserError, match=said):
            command.main(["rm", STOPPED, f"runs={runs}"])
