"""How many seeds would settle a difference: the number itself, and where it is told."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import made
from scipy import stats

import analysis
from analysis import findings, page, results, tables
from analysis.scores import MOST_SEEDS, by_seed, rests_on, seeds_needed, too_few

matplotlib.use("agg")
FEW = st.integers(2, 12)
SIZE = st.floats(1e-3, 1e3)


def gain(mean: float, sd: float, seeds: int = 3) -> pd.Series:
    """Differences with this mean and this standard deviation."""
    plain = np.arange(seeds) - (seeds - 1) / 2
    return pd.Series(mean + sd * plain / plain.std(ddof=1))


def number(one: pd.Series) -> float:
    return seeds_needed(one) or MOST_SEEDS + 1


@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
@pytest.mark.parametrize("sign", [1, -1])
def test_it_is_the_number_of_the_published_tables(effect: float, pairs: int, sign: int) -> None:
    assert seeds_needed(gain(sign * effect * 7.0, 7.0)) == pairs


@given(SIZE, SIZE, st.floats(1.0, 100), FEW)
def test_more_spread_never_needs_fewer_seeds_and_a_larger_difference_never_more(
    mean: float, sd: float, by: float, seeds: int
) -> None:
    slack = 1 + 1e-9  # rounding of mean and spread
    here = number(gain(mean, sd, seeds))
    assert number(gain(mean, sd * by * slack, seeds)) >= here
    assert number(gain(mean * by * slack, sd, seeds)) <= here
    assert here >= 2


@given(SIZE, SIZE, FEW)
def test_neither_the_unit_nor_the_direction_nor_the_seeds_at_hand_matter(mean: float, sd: float, seeds: int) -> None:
    near = {number(gain(mean * by, sd)) for by in (1 - 1e-9, 1 + 1e-9)}
    for same in (gain(-mean, sd), gain(mean * 1024, sd * 1024), gain(mean, sd, seeds)):
        assert number(same) in near


@pytest.mark.parametrize("effect", [0.6, 1.2, 2.5, 5.0])
def test_simulated_t_tests_find_the_difference_as_often_as_promised(effect: float) -> None:
    needed = seeds_needed(gain(effect, 1.0))
    assert needed is not None

    def found(seeds: int) -> float:
        draws = np.random.default_rng(0).normal(effect, 1.0, (40_000, seeds))
        return float((stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05).mean())

    error = 3 * (0.8 * 0.2 / 40_000) ** 0.5
    assert found(needed) >= 0.8 - error
    assert found(needed - 1) < 0.8 + error


def test_of_one_seed_it_is_unknown_and_of_no_difference_there_is_none() -> None:
    for one in (pd.Series([3.0]), pd.Series([], dtype=float), gain(0.0, 0.0), gain(0.0, 1.0), gain(0.01, 1.0)):
        assert seeds_needed(one) is None and too_few(one)
    assert seeds_needed(pd.Series([2.0, 2.0, 2.0])) == 2, "no spread at all"
    assert rests_on(pd.Series([3.0])) == "one seed: how many would settle it is unknown"
    assert rests_on(gain(4.0, 1.0)) == "3 seeds; 3 would settle it"
    assert rests_on(gain(1.0, 1.0)) == "3 seeds, too few; 10 would settle it"
    assert rests_on(gain(0.0, 1.0)) == "3 seeds, too few; not even 1,000 would settle it"


def apart(place: Path, by: float, seeds: tuple[int, ...] = (0, 1, 2)) -> pd.DataFrame:
    """``components`` where "all" is ahead of the others by ``by`` ± 1, and the others are alike."""

    def change(labels: dict[str, Any], row: dict[str, Any]) -> None:
        row |= {"fd": 20.0 + 5 * labels["seed"] - (by + labels["seed"] - 1) * (labels["components"] == "all")}
        row |= {"agreement": 0.5, "class_accuracy": 0.5}

    return analysis.load("components", made(place, "components", seeds, change))


@pytest.mark.parametrize(("by", "needed"), [(4.0, 3), (2.0, 5), (1.0, 10)])
def test_it_stands_beside_every_two_cells_in_files_findings_and_report(by: float, needed: int, tmp_path: Path) -> None:
    frame = apart(tmp_path / "store", by)
    tables.write(frame, tmp_path)
    pairs = pd.read_csv(tmp_path / "pairs.csv", dtype={"seeds_needed": "Int64"})
    assert list(pairs)[-2:] == ["clear", "seeds_needed"], "behind what was there before"
    first = pairs[(pairs.score == "fd") & (pairs.guidance == "none")].set_index("better")
    assert first.loc["components all"].seeds_needed.tolist() == [needed, needed]
    assert first.drop("components all").seeds_needed.isna().all(), "alike in every seed"
    few = ", too few" if needed > 3 else ""
    assert f"(3 seeds{few}; {needed} would settle it)." in findings.findings(frame)[0]
    ahead = tables.ahead_of(frame)
    assert ahead["would settle it"].tolist() == 4 * [str(needed)] and set(ahead.better) == {"components all"}
    assert ahead["ahead by"].tolist() == 4 * [f"{by:.2f} ± 1.00"]
    said = page.page(frame, tmp_path / "store", {}).partition('<details id="ahead">')[2].partition("</details>")[0]
    assert f"<td>{by:.2f} ± 1.00</td><td>3</td><td>{needed}</td>" in said and "paired t-test" in said


def test_with_one_seed_nothing_is_made_up(tmp_path: Path) -> None:
    frame = apart(tmp_path / "store", 4.0, (0,))
    told = findings.findings(frame)
    assert "apart by 3.00 (one seed: how many would settle it is unknown)." in told[0] and "±" not in told[0]
    assert told[-1].endswith("cells (one seed).")
    assert tables.ahead_of(frame).empty and 'id="ahead"' not in page.page(frame, tmp_path / "store", {})


def test_guidance_that_helps_on_too_few_seeds_is_counted(tmp_path: Path) -> None:
    gains = {"all": (5.0, 5.1, 5.2), "no experts": (1.0, 2.0, 3.0), "no early pixels": (-1.0, 0.0, 1.0)}

    def change(labels: dict[str, Any], row: dict[str, Any]) -> None:
        row["fd"] = 20.0 - (labels["guidance"] == "cfg") * gains[labels["components"]][labels["seed"]]

    told = findings.findings(analysis.load("components", made(tmp_path, "components", change=change)))
    assert told[-1].endswith("better in 2 of 3 cells, by more than the spread; 1 of them on too few seeds.")


PAIRED = sorted(results.SHIPPED.glob("*/pairs.csv"))


@pytest.mark.parametrize("file", PAIRED, ids=lambda file: file.parent.name)
def test_what_is_committed_has_the_number_of_its_rows(file: Path) -> None:
    told = tables.pairs(analysis.load(file.parent.name, runs=None)).seeds_needed.map(str)
    assert [line.rpartition(",")[2] or "<NA>" for line in file.read_text().splitlines()[1:]] == told.tolist()


def test_order_ablation_tells_each_of_its_comparisons() -> None:
    frame = analysis.load("order_ablation", runs=None)
    trained, tiny, small = findings.order(frame)
    cells = by_seed(frame, "fd")
    alone = cells["latent none, model pixel_only, pixel_only"] - cells["latent tiny, model cascaded, cascaded"]
    assert trained.endswith(f"better in every seed ({rests_on(alone)}).")
    assert "(3 seeds; 3 would settle it)" in tiny and "(3 seeds, too few; 5 would settle it)" in small
