"""The words of a launch: seeds, the cells that --only means, and cells that cannot stand side by side."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lf.core.errors import UserError
from sweeps.cells import Cell, Launch, matches
from sweeps.launch import _asked, chosen, settings
from sweeps.preflight import checked, fitted
from sweeps.questions import questions


@pytest.mark.parametrize(
    ("word", "seeds"),
    [("1", (1,)), ("[0,0]", (0,)), ("0,1", (0, 1)), ("[0,1,2]", (0, 1, 2)), ("0-2", (0, 1, 2)),
     ("0-2,2,5", (0, 1, 2, 5)), ("[0-1,4]", (0, 1, 4)), ("0-0", (0,))],
)  # fmt: skip
def test_seeds_mean_what_they_seem_to(word: str, seeds: tuple[int, ...]) -> None:
    assert settings([f"seeds={word}"]).seeds == seeds


@pytest.mark.parametrize(
    ("word", "said"),
    [("0-9999999", "at most 1,000"), ("0-600,700-1400", "at most 1,000"), ("5-2", "2-5"), ("-1", "greater"),
     ("1.5", "seeds"), ("one", "seeds"), ("[]", "seeds")],
)  # fmt: skip
def test_what_are_no_seeds_is_refused(word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        settings([f"seeds={word}"])


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    """Those of `order_ablation`, for two seeds."""
    return list(questions()["order_ablation"].cells(settings(["seeds=0,1"])))


@pytest.mark.parametrize(
    ("words", "number", "labels"),
    [
        ("alpha 4", 4, {"alpha": 4}),
        ("shifted 1", 4, {"alpha": 1}),
        ("alpha=1/4", 4, {"alpha": 0.25}),
        ("alpha 0.015625", 4, {"alpha": 1 / 64}),
        ("tiny, alpha 16", 2, {"latent": "tiny", "alpha": 16}),
        ("seed 1", 18, {"seed": 1}),
        ("pixel_only, seed 0", 1, {"model": "pixel_only", "seed": 0}),
        ("tiny cascaded", 2, {"model": "cascaded"}),
        ("pixels independent", 16, {"latent": "pixels"}),
    ],
)
def test_only_takes_whole_words_and_values(words: str, number: int, labels: dict[str, Any], cells: list[Cell]) -> None:
    found = chosen(cells, words)
    assert len(found) == number and all(cell.labels.items() >= labels.items() for cell in found)


def test_only_takes_an_identity_and_not_a_digit_of_one(cells: list[Cell]) -> None:
    assert chosen(cells, cells[3].run.id[:8]) == [cells[3]]
    assert len(chosen(cells, cells[0].trained.id)) == 8
    assert not [cell for cell in cells if matches(cell, cells[3].run.id[:3])]
    with pytest.raises(UserError, match="no such cell.*'pixels'"):
        chosen(cells, "pixel")
    assert chosen(cells, "") == cells


def cell(launch: Launch, labels: dict[str, Any], training: dict[str, Any], evaluation: dict[str, Any]) -> Cell:
    return Cell(
        {**labels, "seed": 0}, launch.train(latents=[{"name": "tiny"}], **training), launch.evaluate(**evaluation)
    )


CASCADED = {"schedule": "cascaded"}


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (({"x": 2}, CASCADED, {"steps": 40}), r"protocol.*steps is 20 in 1 row \(1 seed 0\), but 40 in 1 row"),
        (({"x": 2}, CASCADED, {"n": 50}), "n is 1000"),
        (({"x": 2}, CASCADED | {"lr": 0.1}, {}), "budget.*lr is"),
        (({"x": 2}, CASCADED | {"data": "digits"}, {}), "data is"),
        (({"x": 1}, CASCADED | {"warmup": 3}, {}), "two cells have the labels"),
        (({"x": [1, 2]}, CASCADED, {}), "must be a word or a number"),
    ],
)
def test_cells_that_could_not_share_a_table_are_refused_before_they_are_computed(second: Any, said: str) -> None:
    launch = settings([])
    one = cell(launch, {"x": 1}, CASCADED, {})
    checked("mine", [one, cell(launch, {"x": 3}, CASCADED | {"steps": 7}, {})])  # length may be the question
    with pytest.raises(UserError, match=said):
        checked("mine", [one, cell(launch, *second)])


def test_the_papers_questions_can_share_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lf.data.digest", lambda *_: "any")  # of images that are not there
    for words in (["seeds=0,1"], ["preset=imagenet256", "data=folder:x", "guide=abc"], ["budget=smoke"]):
        launch = settings(words)
        for name, module in questions().items():
            checked(name, fitted(list(module.cells(launch)), launch)[0])


THREE = {"latents": [{"name": "tiny"}, {"name": "pixels", "cells": 2}]}


@pytest.mark.parametrize(("words", "steps"), [([], 21), (["budget=smoke"], 6), (["evaluation.steps=30"], 30)])
def test_steps_of_a_preset_that_do_not_divide_the_paths_become_the_next_that_do(words: list[str], steps: int) -> None:
    launch = settings(words)
    some = [Cell({"s": name, "seed": 0}, launch.train(**THREE, schedule=name), launch.evaluate())
            for name in ("cascaded", "shifted")]  # fmt: skip
    found, taken = fitted(some, launch)
    assert taken == steps and {len(one.run.path) - 1 for one in found} == {steps}  # type: ignore[attr-defined]
    checked("mine", found)


def test_steps_that_were_given_and_do_not_divide_the_path_are_refused() -> None:
    launch = settings(["evaluation.steps=20"])
    (found,), _ = fitted([Cell({"seed": 0}, launch.train(**THREE, schedule="cascaded"), launch.evaluate())], launch)
    with pytest.raises(UserError, match="such as 21"):
        _ = found.run


QUESTION = '''"""Mine?"""
from typing import Literal
import torch
from lf.schedules import Schedule, Times
from sweeps.cells import Cell


class Late(Schedule):
    name: Literal["{name}"] = "{name}"
    start: float = 0.5

    def sample(self, n, *, generator=None):
        return Times(self.curve(torch.rand(n, generator=generator)), torch.ones(n, 2))

    def curve(self, u):
        return torch.stack([((u - self.start) / (1 - self.start)).clamp_min(0), u], -1)


def cells(launch):
    for start in (0.25, 0.5):
        training = launch.train(latents=[{{"name": "pixels", "cells": 2}}], schedule=Late(start=start), seed=0)
        labels = {{"start": start, "late": "yes" if start > 0.3 else 1, "note": "two words", "tries": 3, "none": None}}
        yield Cell(labels, training, launch.evaluate())
'''


@pytest.fixture
def question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    def write(name: str) -> str:
        (tmp_path / "my_sweep.py").write_text(QUESTION.format(name=name))
        return str(tmp_path / "my_sweep.py")

    monkeypatch.chdir(tmp_path)
    yield write


def test_a_schedule_of_ones_own_may_not_have_the_name_of_an_installed_one(question: Callable[[str], str]) -> None:
    with pytest.raises(UserError, match="Late: name 'shifted' is taken by lf.schedules.shifted"):
        _asked(question("shifted"), [])


@pytest.mark.slow
def test_a_schedule_of_ones_own_works_through_to_the_report_also_from_another_process(
    question: Callable[[str], str], tmp_path: Path, judged: Callable[[Path], Path]
) -> None:
    judged(tmp_path / "runs")

    def run(*words: str) -> None:
        done = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    small = ["budget=smoke", "data=digits", "resolution=16", "network.patch=4", "runtime.device=cpu", "workers=1"]
    run("sweeps.launch", question("late_in_a_file"), *small)
    report = tmp_path / "runs" / "reports" / "my_sweep-digits-smoke"
    table = pd.read_csv(report / "table.csv")
    assert table.late.tolist() == ["1", "yes"] and {*table.note} == {"two words"} and {*table.tries} == {3}
    shutil.rmtree(report)
    run("analysis.figures", "my_sweep")
    assert {"paths.png", "densities.png"} <= {file.name for file in report.iterdir()}
    (tmp_path / "my_sweep.py").unlink()
    run("analysis.report", "my_sweep")  # without the figures of its paths
