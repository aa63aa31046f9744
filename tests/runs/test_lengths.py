"""A training that is longer than a finished one continues it, to the same end as one from its first step."""

from pathlib import Path

import pytest
import torch
from toy import PLAIN, WORDS, training

from lf.config import Training
from lf.runs import shorter, training_run
from lf.runs.__main__ import main as runs_main
from lf.storage import checkpoint
from lf.train import main, train

CASE = ["latents=pixels", "schedule=cascaded", "ema=[0.9,0.5]"]


def of(place: Path, *words: str) -> Training:
    return training(*CASE, f"runtime.runs={place}", *words)


def test_its_end_is_that_of_a_training_from_the_first_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for steps in (2, 3):
        train(of(tmp_path / "one", f"steps={steps}"))
    capsys.readouterr()
    long = of(tmp_path / "one", "steps=5")
    row = train(long)
    shorter_id = training_run(of(tmp_path / "one", "steps=3")).id
    assert f"training {row['id']}: resumes at step 3, the end of {shorter_id}\n" in capsys.readouterr().err
    alone = of(tmp_path / "two", "steps=5")
    assert train(alone)["id"] == row["id"]
    one, two = (checkpoint.read(training_run(c).folder / checkpoint.NAME) for c in (long, alone))
    assert one[1] == two[1] == 5 and one[0].keys() == two[0].keys()
    assert all(torch.equal(one[0][key], two[0][key]) for key in one[0])


@pytest.mark.parametrize(
    "words", [["steps=2"], ["seed=1"], ["lr=0.002"], ["lr_schedule=linear"], ["ema=[0.9]"], ["label_dropout=0.2"]]
)
def test_only_a_shorter_training_of_the_same_config_is_continued(words: list[str], tmp_path: Path) -> None:
    train(of(tmp_path, "steps=3"))
    assert shorter(training_run(of(tmp_path, "steps=5"))) is not None
    assert shorter(training_run(of(tmp_path, "steps=5", *words))) is None


def test_where_the_rate_depends_on_the_length_nothing_is_continued(tmp_path: Path) -> None:
    train(of(tmp_path, "steps=3", "lr_schedule=linear"))
    assert shorter(training_run(of(tmp_path, "steps=5", "lr_schedule=linear"))) is None


def test_what_was_removed_is_not_continued(tmp_path: Path) -> None:
    short, long = of(tmp_path, "steps=3"), training_run(of(tmp_path, "steps=5"))
    train(short)
    runs_main(["rm", training_run(short).id, f"runs={tmp_path}"])
    assert shorter(long) is None
    train(of(tmp_path, "steps=2"))
    found = shorter(long)
    assert found is not None and found.id == training_run(of(tmp_path, "steps=2")).id
    assert train(of(tmp_path, "steps=5"))["id"] == long.id


def test_the_command_says_that_it_continues_and_not_that_it_is_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, *PLAIN, f"runs={tmp_path}"]
    main([*words, "steps=2"])
    (first,) = (tmp_path / "training").iterdir()
    capsys.readouterr()
    main([*words, "steps=3"])
    said = capsys.readouterr().err
    assert f"resumes at step 2, the end of {first.name}\n" in said and "is new" not in said
