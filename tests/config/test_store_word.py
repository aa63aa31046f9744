"""``runs=FOLDER`` names the run store for every command; older spellings mean the same."""

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import folders
from lf import evaluate, sample
from lf.config import Training
from lf.config.cli import config_over_preset
from lf.core.cli import config_from
from lf.core.errors import UserError
from lf.data.prepare import Preparing
from lf.encoders.cache import Caching
from sweeps import launch
from sweeps.jobs import profile, state
from sweeps.search import guidance


def trained(word: str) -> str:
    return config_over_preset([word], Training, "training", None).runtime.runs


def launched(word: str) -> str:
    return launch.settings([word]).resolved.runs


def searched(word: str) -> str:
    return guidance.settings([word]).runtime.runs


def read(word: str) -> str:
    return str(folders.arguments("`python -m analysis.tables NAME`").parse_args(["name", word]).runs)


@pytest.mark.parametrize("word", ["runs=there", "runtime.runs=there"])
@pytest.mark.parametrize("parse", [trained, launched, searched, read])
def test_the_store_is_a_word_of_every_command(parse: Callable[[str], str], word: str) -> None:
    assert parse(word) == "there"


def test_the_store_may_be_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert {parse("runs=~/runs") for parse in (trained, launched, searched, read)} == {"/home/me/runs"}


def test_a_command_that_only_caches_takes_it_too() -> None:
    doc = "`python -m MODULE A B`"
    assert config_from(["a", "b", "runs=there"], Preparing, "prepare", doc, positional=2).runs == "there"
    assert config_from(["a", "b", "runs=there"], Caching, "cache", doc, positional=2).cached == Path("there/cache")
    assert config_from(["a", "b", "cache=here"], Caching, "cache", doc, positional=2).cached == Path("here")
    with pytest.raises(UserError, match=r"prepare\.runtime: unknown key"):
        config_from(["a", "b", "runtime.device=cpu"], Preparing, "prepare", doc, positional=2)


def test_a_second_word_of_the_analysis_is_still_the_store() -> None:
    assert read("results") == read("runs=results") == "results"
    with pytest.raises(UserError, match="run: unknown key; allowed: runs"):
        read("run=there")


@pytest.mark.parametrize("word", ["runs={}/there", "runtime.runs={}/there"])
def test_a_sweep_and_a_run_are_looked_for_there(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "USER", tmp_path / "none")
    there = word.format(tmp_path)
    with pytest.raises(UserError, match=f"not launched in {tmp_path}/there"):
        state.chosen("order_ablation", [there])
    for command in (evaluate, sample):
        with pytest.raises(UserError, match=f"{tmp_path}/there"):
            command.main(["run=ID", there])
