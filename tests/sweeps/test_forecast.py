"""A forecast is of what a plan repeats: not of start-up, nor of work that is done once."""

import json
from pathlib import Path

import pytest

from sweeps.forecast import forecast, forecast_hours, rates
from sweeps.launch import settings
from sweeps.plan import Plan


def row(runs: Path, kind: str, name: str, **values: float) -> None:
    folder = runs / kind / name
    folder.mkdir(parents=True)
    (folder / "row.json").write_text(json.dumps({"id": name, **values}))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three evaluations of 1,000 images, of which the first one also trained the judge; and a smoke run."""
    row(tmp_path, "training", "a", seconds=40.0, seconds_per_step=0.1)
    for name, seconds in (("b", 190.0), ("c", 12.0), ("d", 14.0)):
        row(tmp_path, "evaluation", name, n=1000, seconds=seconds, seconds_sampling=10.0)
    row(tmp_path, "training", "e", seconds=30.0, seconds_per_step=5.0)
    row(tmp_path, "evaluation", "f", n=8, seconds=9.0, seconds_sampling=8.0)
    return tmp_path


def test_one_off_work_and_start_up_do_not_count(runs: Path) -> None:
    found = rates(runs)
    assert (found["step"], found["image"], found["evaluation"]) == (0.1, 0.01, 4.0)
    assert found["source"] == f"{runs.name}/"


def test_hours_are_those_of_steps_images_and_evaluations(runs: Path) -> None:
    launch, plan = settings([f"runtime.runs={runs}"]), Plan({}, [], steps=7200, images=36_000, evaluations=36)
    assert forecast_hours(plan, launch) == pytest.approx((720 + 360 + 144) / 3600)
    assert "about 20 min of one worker (0.100 s/step, 0.010 s/image: " in forecast(plan, launch)


def test_a_store_of_smoke_runs_forecasts_by_the_committed_results(tmp_path: Path) -> None:
    row(tmp_path, "training", "e", seconds=30.0, seconds_per_step=5.0)
    row(tmp_path, "evaluation", "f", n=8, seconds=9.0, seconds_sampling=8.0)
    assert rates(tmp_path)["source"] == "results/" and rates(tmp_path)["step"] < 1
