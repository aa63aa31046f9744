"""Searches by several workers: those that die lose no trial, and each completes once."""

import json
from pathlib import Path

import pytest
from killing import kill_workers, legs
from searches import ORDER, PLANE, SMALL
from toy import Judged, start

from analysis import load
from analysis.figures import draw
from analysis.findings import findings
from analysis.scores import labels
from analysis.tables import for_a_reader


@pytest.mark.slow
def test_two_of_four_workers_are_killed_and_every_trial_completes_once(network: Path, judged: Judged) -> None:
    store = judged(network.parents[1])
    words = [str(network), "--trials", "14", "--workers", "4", *SMALL, *PLANE, f"runtime.runs={store}"]
    words += ["evaluation.n=400", "evaluation.steps=10"]
    command = start("sweeps.guidance", *words)
    killed = kill_workers(command, store, 2)
    (file,) = store.glob("sweeps/guidance-*/trials-14.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["trial"] for row in rows] == list(range(14))
    assert {row["state"] for row in rows} == {"complete"}
    for row in rows:  # those of the killed were begun twice, the others once
        assert len(row["by"]) == 1 + (row["trial"] in killed), row
        assert (store / "evaluation" / row["evaluation"] / "row.json").exists()

    frame = load(file.parent.name, store)  # a table, figures and a sentence of it, as of a sweep
    assert list(frame.trial) == list(range(14)) and labels(frame) == ["trial", "scale.pixels", "scale.pixels_latent"]
    assert set(draw(frame, store)) >= {"search", "guidance"}
    (found,) = findings(frame)
    assert f"(trial {frame.fd.idxmin()}), {frame.fd.min():.2f}, against {frame.fd[0]:.2f} unguided" in found


@pytest.mark.slow
@pytest.mark.chaos
def test_two_of_four_workers_are_killed_and_every_order_is_trained_once(judged: Judged, tmp_path: Path) -> None:
    store = judged(tmp_path / "runs")
    words = [*ORDER, f"runtime.runs={store}", "--executor=local", "--trials", "8", "--workers", "4"]
    killed = kill_workers(start("sweeps.order", *words), store, 2)

    (file,) = store.glob("sweeps/order-*/trials-8.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(row["trial"], row["state"]) for row in rows] == [(number, "complete") for number in range(8)]
    assert all(len(row["by"]) == 1 + (row["trial"] in killed) for row in rows), rows

    frame = load(file.parent.name, store)  # every order, the better half for longer, the best one to its end
    tried = len({row["evaluation"] for row in rows})  # the first random points may be orders that were tried
    half = -(-tried // 2)
    assert frame.protocol.notna().all() and [len(part) for _, part in frame.groupby("share")] == [tried, half, 3]
    begun = legs(store)
    assert set(begun) > {*frame.training_id} and len(begun) == 1 + tried + half + 2  # with the trunk
    hit = {frame.set_index("evaluation_id").training_id[rows[number]["evaluation"]] for number in killed}
    assert {name for name, times in begun.items() if times != 1} <= hit, "a training was done twice"
    assert len(list((store / "evaluation").iterdir())) == len(frame)
    assert set(draw(frame, store)) >= {"tried", "halving"} and len(for_a_reader(frame, str)) == tried
    (found,) = findings(frame)
    assert f" of {tried} orders best with " in found and "with fresh noise " in found and "a second seed " in found
    steps = 60 + 30 * tried + 15 * half + 15 + 60  # every length continues the shorter one
    assert f"took {steps:,} training steps, those of the trunk included" in found
