"""A new training says that it is new, which run is the most similar, and in what they differ."""

import shutil
from pathlib import Path

import pytest
from toy import PLAIN, WORDS, training

from lf import train
from lf.runs import most_similar, training_run, why_new


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["steps=3", "lr_schedule=cosine"],
            "the most similar one, {first}, differs in lr_schedule constant→cosine, steps 2→3",
        ),
        (["steps=1"], "{first} differs only in steps 2→1, and is not continued"),
        (["steps=3", "seed=1"], "the most similar one, {first}, differs in seed 0→1, steps 2→3"),
        (["lr=0.1"], "the most similar one, {first}, differs in lr 0.001→0.1"),
    ],
)
def test_a_new_training_says_in_what_it_differs(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [*WORDS, *PLAIN, f"runs={tmp_path}"]
    train.main([*plain, "steps=2"])
    (first,) = (tmp_path / "training").iterdir()
    assert "is new" not in capsys.readouterr().err  # of the first in a store there is nothing to say
    train.main([*plain, "steps=2", *words])
    (second,) = {*(tmp_path / "training").iterdir()} - {first}
    assert f"training {second.name}: is new; {said.format(first=first.name)}\n" in capsys.readouterr().err
    for again in ([], words):
        train.main([*plain, "steps=2", *again])  # they are done
        assert "is new" not in capsys.readouterr().err


def test_a_training_that_has_begun_says_that_it_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS, *PLAIN, "steps=2", f"runs={tmp_path}"]
    train.main(words)
    (run,) = (tmp_path / "training").iterdir()
    (run / "row.json").unlink()
    train.main([*words, "steps=3"])
    assert (
        f"{run.name} differs only in steps 2→3, and is not continued; steps=2 continues it\n" in capsys.readouterr().err
    )
    train.main(words)
    assert f"training {run.name}: resumes at step 2\n" in capsys.readouterr().err


def test_images_that_were_moved_make_no_difference(store: Path, tmp_path: Path) -> None:
    for name in ("here", "there"):
        shutil.copytree(store / "images", tmp_path / name)
    one, two = (
        training_run(training(f"data=folder:{tmp_path / name}", f"runs={tmp_path}", *words))
        for name, words in (("here", []), ("there", ["seed=1"]))
    )
    assert why_new(two) == "first run in this store"
    with one.held():
        pass
    found = most_similar(two)
    assert found and found.run.id == one.id and found.changes == {"seed": (0, 1)}
