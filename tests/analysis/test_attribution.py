"""The share of the plan: all of what is above the floor if real latents reach it, nothing if they change nothing."""

import pandas as pd
import pytest

import analysis
from analysis.findings import attributed


@pytest.fixture
def frame() -> pd.DataFrame:
    return analysis.load("attribution", runs=None)


def first(frame: pd.DataFrame) -> str:
    return next(line for line in attributed(frame) if "tiny" in line and "noise" not in line)


@pytest.mark.parametrize(
    ("of_the_way", "share"), [(1.0, "100.00 ± 0.00"), (0.0, "0.00 ± 0.00"), (0.25, "25.00 ± 0.00")]
)
def test_the_plan_has_the_share_that_real_latents_gain(of_the_way: float, share: str, frame: pd.DataFrame) -> None:
    drawn = frame[frame.given == "no"].set_index(["latent", "noise", "guidance", "seed"])
    given = frame.given != "no"
    keys = pd.MultiIndex.from_frame(frame.loc[given, ["latent", "noise", "guidance", "seed"]])
    there = drawn.loc[keys]
    frame.loc[given, "fd"] = (there.fd - of_the_way * (there.fd - there.real_fd)).to_numpy()
    assert f"{share} % is the plan's" in first(frame)


def test_it_is_said_of_unguided_images_of_each_latent_and_each_degree_of_noise(frame: pd.DataFrame) -> None:
    lines = attributed(frame)
    assert len(lines) == 4 and sum("and noise 0.25" in line for line in lines) == 2
    assert attributed(frame[frame.given == "no"]) == []
