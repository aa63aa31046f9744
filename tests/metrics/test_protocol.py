"""What images of one's own are scored with, unless the words say: by their size, and it is said."""

import json
from pathlib import Path

import pytest
from packed import packed
from toy import WORDS

from lf import evaluate, metrics, train
from lf.config import Source
from lf.core.parsing import parse

SMALL, LARGE = ("judge",), ("inception-v3-compat", "clip-vit-b-32")


@pytest.mark.parametrize(
    ("data", "resolution", "features"),
    [("shapes", 32, SMALL), ("digits", 128, SMALL), ("folder:{}/images", 64, SMALL), ("folder:{}/images", 72, LARGE),
     ("shards:{}/tars", 16, SMALL), ("shards:{}/tars", 64, SMALL), ("shards:{}/tars", 256, LARGE),
     ("shards:{}/moved", 16, LARGE), ("", 256, LARGE)],
)  # fmt: skip
def test_small_images_are_judged_and_large_ones_are_scored_by_fid(
    data: str, resolution: int, features: tuple[str, ...], tmp_path: Path
) -> None:
    packed(tmp_path / "tars", [3])
    source = Source(data=data.format(tmp_path), resolution=resolution, runtime={"runs": str(tmp_path / "runs")})
    assert tuple(evaluate.protocol_for(source)["features"]) == features


def test_small_images_that_would_fill_the_memory_are_scored_by_fid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(tmp_path / "tars", [3])
    source = parse(Source, {"data": f"shards:{tmp_path}/tars", "runtime": {"runs": str(tmp_path / "runs")}})
    monkeypatch.setattr(evaluate, "JUDGED_BYTES", 3 * 3 * 32**2)
    assert evaluate.protocol_for(source)["features"] == ["judge"]
    monkeypatch.setattr(evaluate, "JUDGED_BYTES", 3 * 3 * 32**2 - 1)
    assert evaluate.protocol_for(source)["features"] == [*LARGE]


def test_a_model_of_small_shards_is_evaluated_without_a_word_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(metrics.RECIPE, "steps", 3)
    packed(tmp_path / "tars", [8], size=16)
    plain = [f"runtime.runs={tmp_path}", "runtime.compile=false", "runtime.device=cpu"]
    words = [word for word in WORDS if not word.startswith(("data=", "steps="))]
    train.main([*words, f"data=shards:{tmp_path}/tars", "steps=2", *plain])
    (run,) = (tmp_path / "training").iterdir()
    capsys.readouterr()
    evaluate.main([f"run={run.name}", "n=6", "dtype=float32", *plain])
    out, err = capsys.readouterr()
    row = json.loads(out)
    assert row["score"] == "FD-shards" and row["fd"] > 0 and row["features"] == ["judge"] and row["steps"] == 20
    assert "images of 16 px are scored with features=[judge] n=6 steps=20; these words change it\n" in err
    evaluate.main([f"run={run.name}", "features=judge", "n=6", "dtype=float32", *plain])
    assert json.loads(capsys.readouterr().out)["id"] == row["id"]
