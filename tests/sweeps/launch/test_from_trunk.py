"""``from=trunk``: one network of all orders is trained once, and every cell begins with its weights."""

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import order
import pytest
import torch
from inline import inline
from order import rows, runs_of, scores
from toy import LATENT, PLAIN, WORDS, refusal, training

from lf.config import Training
from lf.runs import training_run
from lf.runs.__main__ import main as runs_main
from lf.storage import checkpoint
from lf.train import train
from sweeps import launch, retry, status

SWEEP = f'''
"""Which order is best?"""
from lf.core.parsing import overrides
from sweeps.cells import Cell

def cells(launch):
    path = {{"name": "cascaded"}}
    for seed in launch.seeds:
        for name in ("cascaded", "shifted", "independent"):
            training = launch.train(overrides(["{LATENT}"]), schedule=name, seed=seed)
            yield Cell({{"order": name, "seed": seed}}, training, launch.evaluate(path=path))
        alone = launch.train(latents=[], schedule="pixel_only", seed=seed)
        yield Cell({{"order": "none", "seed": seed}}, alone, launch.evaluate())
'''
SHORT = [*(word for word in WORDS if not word.startswith(("steps=", "warmup="))), "steps=10", "warmup=5"]
ASKED = [*SHORT, *PLAIN, "evaluation.n=16", "evaluation.steps=4", "workers=2", "from=trunk"]


def words(place: Path, *more: str) -> list[str]:
    """The launch of the sweep in ``place``, with the store beside it."""
    (place / "orders.py").write_text(SWEEP)
    return [str(place / "orders.py"), *ASKED, f"runtime.runs={place / 'runs'}", *more]


def trunk(place: Path, seed: int = 0) -> Training:
    """What the trunk is by hand."""
    return training(*SHORT, LATENT, "schedule=independent", f"seed={seed}", f"runtime.runs={place}")


def specialised(place: Path, schedule: str, *more: str) -> Training:
    """What a cell's training is by hand."""
    init = f"init={training_run(trunk(place)).id}"
    short = [init, "steps=2", "warmup=1", "ema=0.59049"]
    return training(*SHORT, LATENT, f"schedule={schedule}", *short, *more, f"runtime.runs={place}")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder in which the sweep is done, and what the launch said."""
    place = tmp_path_factory.mktemp("trunk")
    with order.quick(), inline(), redirect_stdout(io.StringIO()) as said:
        launch.main(words(place, "seeds=[0,1]"))
    yield place, said.getvalue()


@pytest.fixture
def place(first: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the folder, to change."""
    return Path(shutil.copytree(first[0], tmp_path / "place"))


def tensors(config: Training) -> dict[str, torch.Tensor]:
    return checkpoint.read(training_run(config).folder / checkpoint.NAME)[0]


def test_a_trunk_for_each_seed_and_cells_as_trained_by_hand(first: tuple[Path, str], tmp_path: Path) -> None:
    runs, said = first[0] / "runs", first[1]
    assert "from=trunk: 48 training steps in all, trunks included; from scratch 80 (" in said
    trained = rows(runs, "training")
    assert len(trained) == 8 and len(rows(runs)) == 8 and "16 jobs done, 0 failed" in said
    kept = [json.loads((runs / "training" / name / "config.json").read_text()) for name in trained]
    found = sorted((config["schedule"]["name"], config["steps"], "init" in config) for config in kept)
    expected = [("cascaded", 2, True), ("independent", 10, False), ("pixel_only", 10, False), ("shifted", 2, True)]
    assert found == sorted(expected * 2)
    for file in runs.glob("jobs/*/attempts.jsonl"):
        assert len(file.read_text().splitlines()) == 2, "begun once, ended once"
    train(trunk(tmp_path))
    for name in ("cascaded", "shifted"):
        row = train(specialised(tmp_path, name))
        assert row["id"] in trained
        mine, theirs = tensors(specialised(tmp_path, name)), tensors(specialised(runs, name))
        assert mine.keys() == theirs.keys() and all(value.equal(theirs[key]) for key, value in mine.items())


def test_a_second_launch_repeats_nothing_though_the_trunk_is_gone(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "orders.py").write_text(SWEEP.replace(', "independent"', ""))
    before = runs_of(place / "runs")
    asked = [str(place / "orders.py"), *ASKED, f"runtime.runs={place / 'runs'}", "seeds=[0,1]"]
    launch.main(asked)
    assert "0 jobs done, 0 failed" in capsys.readouterr().out and runs_of(place / "runs") == before
    gone = training_run(trunk(place / "runs")).id
    runs_main(["rm", gone, "--evaluations", f"runs={place / 'runs'}"])
    kept = runs_of(place / "runs")
    launch.main(asked)
    assert "0 jobs done, 0 failed" in capsys.readouterr().out and runs_of(place / "runs") == kept


def test_done_again_by_force_it_scores_the_same(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = scores(place / "runs")
    launch.main(words(place, "--force", "--only", "seed 0"))
    assert "8 jobs done, 0 failed" in capsys.readouterr().out, "the trunk is a cell, too"
    assert scores(place / "runs").items() >= before.items()


@pytest.mark.parametrize("only", [True, False])
def test_one_cell_brings_its_trunk_along(only: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    launch.main(words(tmp_path, "--only" if only else "--local", "cascaded"))
    assert set(rows(runs, "training")) == {training_run(c(runs)).id for c in (trunk, cascaded)}
    assert len(rows(runs)) == 1


def cascaded(runs: Path) -> Training:
    return specialised(runs, "cascaded")


def test_what_waits_for_a_failed_trunk_is_blocked_until_it_is_retried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    harmed = training_run(trunk(runs)).folder / checkpoint.NAME
    harmed.parent.mkdir(parents=True)
    harmed.write_bytes(b"garbage")
    with pytest.raises(SystemExit) as stop:
        launch.main(words(tmp_path))
    out = capsys.readouterr().out
    assert stop.value.code == 1 and "2 jobs done, 6 failed" in out, out
    assert "failed: train independent seed 0: " in out, out
    assert out.count("the training that it begins from stopped") >= 2
    assert not (training_run(cascaded(runs)).folder / "config.json").exists()
    status.main(["orders", "--all", f"runs={runs}"])
    told = [line.split()[2:4] for line in capsys.readouterr().out.splitlines() if line[:1].isdigit()]
    assert sorted(map(tuple, told)) == sorted(
        [("failed", "train"), *[("blocked", "evaluate")] * 3, *[("blocked", "train")] * 2,
         ("done", "train"), ("done", "evaluate")]
    )  # fmt: skip
    with pytest.raises(SystemExit):  # it is not tried again by itself
        launch.main(words(tmp_path))
    capsys.readouterr()
    harmed.unlink()
    retry.main(["orders", f"runs={runs}"])
    assert "6 jobs done, 0 failed" in capsys.readouterr().out and len(rows(runs)) == 4


CHAIN = f'''
"""How long?"""
from dataclasses import replace
from lf.core.parsing import overrides
from sweeps.cells import Cell
from sweeps.specialise import specialised, trunk_of

def cells(launch):
    training = launch.train(overrides(["{LATENT}"]), schedule="cascaded")
    before = trunk = trunk_of(training, launch)
    for steps in (2, 4, 6):
        short = specialised(training, trunk, steps)
        yield Cell({{"length": steps, "of": before.steps}}, short, launch.evaluate(), before)
        before = short
'''


def test_a_length_continues_the_shorter_one_which_need_not_be_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chain.py").write_text(CHAIN)
    asked = [str(tmp_path / "chain.py"), *ASKED[:-1], f"runtime.runs={tmp_path / 'runs'}", "--only", "length 6"]
    launch.main([*asked, "--dry-run"])
    assert "\n16 training steps and 16 images to do" in capsys.readouterr().out
    launch.main(asked)
    runs = tmp_path / "runs"
    assert "5 jobs done, 0 failed" in capsys.readouterr().out and len(rows(runs)) == 1
    alone = tmp_path / "alone"
    train(trunk(alone))
    train(specialised(alone, "cascaded", "steps=6"))
    mine, theirs = (tensors(specialised(at, "cascaded", "steps=6")) for at in (runs, alone))
    assert all(value.equal(theirs[key]) for key, value in mine.items())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["from=trnk"], "launch.from='trnk': allowed: scratch, trunk; did you mean 'trunk'?\n"),
        (["init=000000000000"], "from=trunk: cell 'cascaded seed 0' begins with the weights of init=000000000000"),
        (["from=scratch", "probe=0.5"], "probe=0.5: is for from=trunk"),
        (["probe=0"], "launch.probe"),
        (["probe=1.5"], "launch.probe"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = refusal(launch.main, words(tmp_path, *more), capsys)
    assert said in err, err
    assert not (tmp_path / "runs").exists()


def test_a_training_that_waits_for_itself_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words(tmp_path)
    (tmp_path / "orders.py").write_text(CHAIN.replace("(2, 4, 6)", "(2, 4, 6, 2)"))
    asked = [str(tmp_path / "orders.py"), *ASKED[:-1], f"runtime.runs={tmp_path / 'runs'}"]
    assert "after: its training waits for itself" in refusal(launch.main, asked, capsys)
