"""A run is named by the contents of what it uses, not by paths; an evaluation compares with what was trained on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from toy import PLAIN, refusal, training

from lf import LatentForcing, evaluate, metrics, sample
from lf.core.runtime import Runtime
from lf.runs import find_training, tokenizer_run, training_run
from lf.train import train
from lf.train_tokenizer import Command as Tokenizing

SHORT = ["steps=6", "batch=4"]
SCORED = ["n=8", "steps=2", *PLAIN]

# As commit 35c8ef2 wrote it, in the folder 2527ecfe52e9, of the images of `pictures`.
OLD_NAME, OLD_CONFIG = "2527ecfe52e9", {
    "data": "folder:images", "resolution": 16, "flip": False, "noise_scale": 1.0, "latents": [],
    "network": {"depth": 1, "width": 32, "heads": 2, "bottleneck": 16, "patch": 4, "class_tokens": 0,
                "class_token_block": 4, "expert_width": 0, "expert_depth": 2, "repa_block": None, "repa_width": 768},
    "schedule": {"name": "pixel_only", "streams": 1, "t_clip": 0.05, "P_mean": -0.8, "P_std": 0.8},
    "steps": 6, "batch": 8, "lr": 0.001, "lr_schedule": "constant", "warmup": 6, "ema": [0.9], "clip": 0.0,
    "weight_decay": 0.0, "label_dropout": 0.1, "repa": None, "repa_weight": 0.5, "dtype": "bfloat16", "seed": 0,
    "data_digest": "f3deeed35f008e00",
}  # fmt: skip


def pictures(place: Path, shade: int = 0) -> None:
    """Twelve images in two classes."""
    for number in range(12):
        file = place / "ab"[number % 2] / f"{number:02d}.ppm"
        file.parent.mkdir(parents=True, exist_ok=True)
        values = bytes((number * 20 + c * 7 + i + shade) % 256 for i in range(256) for c in range(3))
        file.write_bytes(b"P6 16 16 255\n" + values)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ``images/`` in it."""
    pictures(tmp_path / "home" / "images")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def test_four_spellings_two_working_directories_and_moved_data_are_one_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = f"runtime.runs={home}/runs"
    names = ["folder:images", "folder:images/", "folder:./images", f"folder:{home}/images"]
    done = {train(training(f"data={name}", runs, *SHORT))["id"] for name in names}
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    done.add(train(training("data=folder:../images", runs, *SHORT))["id"])
    (home / "images").rename(home / "moved")
    done.add(train(training(f"data=folder:{home}/moved", runs, *SHORT))["id"])
    assert len(done) == 1 and len(list((home / "runs" / "training").iterdir())) == 1
    stored = json.loads((home / "runs" / "training" / done.pop() / "config.json").read_text())
    assert stored["data"] == f"folder:{home}/images" and stored["contents"] == {"data": "folder"}


def test_other_images_settings_and_kinds_of_data_are_other_runs(home: Path) -> None:
    words = ["data=folder:images", *SHORT]
    first = training_run(training(*words)).id
    assert training_run(training(*words, "seed=1")).id != first
    pictures(home / "images", shade=1)
    second = training_run(training(*words)).id
    assert second != first
    assert training_run(training("data=digits", *SHORT)).config.keys() & {"contents"} == set()


def test_weights_and_statistics_count_by_content(home: Path) -> None:
    def named(**fields: str) -> str:
        encoder = {"name": "dinov2", "dim": 8, "stats": "stats.safetensors", **fields}
        return training_run(training("data=digits", *SHORT, f"latents=[{json.dumps(encoder)}]", "schedule=cascaded")).id

    for name, seed in (("stats", 0), ("copied", 0), ("others", 1)):
        save_file({"mean": torch.full((8,), float(seed))}, home / f"{name}.safetensors")
        (home / name).mkdir()
        save_file({"w": torch.full((8,), float(seed))}, home / name / "model.safetensors")
    same = {named(weights=place) for place in ("stats", "stats/", "copied", f"{home}/stats")}
    same |= {named(weights="stats", stats=place) for place in ("copied.safetensors", f"{home}/stats.safetensors")}
    assert len(same) == 1
    assert not same & {named(weights="others"), named(weights="stats", stats="others.safetensors"), named()}


def test_a_tokenizer_is_named_by_contents_too(home: Path) -> None:
    def named(name: str) -> str:
        config = Tokenizing(data=name, resolution=16, patch=4, n=8)
        return tokenizer_run(config.tokenizer, 4, config, config).id

    assert named("folder:images") == named(f"folder:{home}/images/")


@pytest.mark.parametrize("name", ["images", "./images/", "moved"])
def test_a_run_that_version_0_1_named_by_its_path_is_found(home: Path, name: str) -> None:
    folder = home / "runs" / "training" / OLD_NAME
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(OLD_CONFIG, indent=1))
    (folder / "row.json").write_text('{"id": "2527ecfe52e9"}')
    if name == "moved":
        (home / "images").rename(home / "moved")
    run = training_run(training(f"data=folder:{name}", "steps=6"))
    assert run.id == OLD_NAME and run.folder.absolute() == folder and run.state == "done"
    assert training_run(training(f"data=folder:{name}", "steps=7")).id != OLD_NAME
    assert find_training(OLD_NAME, Runtime()).id == OLD_NAME


@pytest.fixture
def trained(home: Path) -> Path:
    """The folder of a training on ``images/``."""
    row = train(training("data=folder:images", *SHORT))
    assert row["classes"] == ["a", "b"]
    return home / "runs" / "training" / row["id"]


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Evaluates a run by words, with a judge of four steps."""
    monkeypatch.setitem(metrics.RECIPE, "steps", 4)

    def scored(*words: str) -> dict[str, Any]:
        capsys.readouterr()
        evaluate.main([*SCORED, *words])
        return json.loads(capsys.readouterr().out)

    return scored


def test_images_that_were_replaced_are_not_compared_with(
    trained: Path, home: Path, scored: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    row, run = scored(f"run={trained.name}"), f"run={trained.name}"
    stored = json.loads((trained / "config.json").read_text())
    assert row["classes"] == 2 and row["data_digest"] == stored["data_digest"]
    (home / "images").rename(home / "moved")
    said = refusal(evaluate.main, [run, *SCORED, "seed=1"], capsys)
    assert "no such folder" in said and "if the images were moved, give data=" in said
    pictures(home / "images", shade=1)
    said = refusal(evaluate.main, [run, *SCORED, "seed=1"], capsys)
    assert "is not what it was trained on" in said and "images" in said
    again = scored(run, "seed=1", "data=folder:moved")
    assert again["data_digest"] == row["data_digest"] and again["id"] != row["id"]
    assert scored(run)["id"] == row["id"], "a finished evaluation needs no images"
    sample.main([run, "n=1", "steps=1", "guidance.kind=none", *PLAIN])  # neither do samples


def test_a_network_without_known_data_is_compared_with_data_of_its_classes(
    trained: Path, home: Path, scored: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    LatentForcing.from_pretrained(trained).save_pretrained(home / "hub")
    said = refusal(evaluate.main, [f"run={home}/hub", *SCORED, "data=digits"], capsys)
    assert "its network has 2 classes, but data=digits has 10" in said
    row = scored(f"run={home}/hub")
    pictures(home / "others", shade=1)
    other = scored(f"run={home}/hub", "data=folder:others")
    assert other["id"] != row["id"] and other["data_digest"] != row["data_digest"]
    pictures(home / "images", shade=1)
    assert scored(f"run={home}/hub")["id"] == other["id"], "the images count, not where they lie"
