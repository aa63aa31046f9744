"""Cells that fail on a real cluster: told apart, treated as they should be, named; the others finish."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cluster import Cluster
from failing import FLAWED, Place
from packed import packed
from toy import PATIENCE, PLAIN, Judged, training

from lf.runs import training_run
from lf.storage import checkpoint
from lf.train import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(cluster: Cluster, judged: Judged, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("place"), cluster)
    judged(made.runs)
    yield made
    cluster.clear()


def address_space(place: Place) -> int:
    """KiB of address space that a training of BASE takes on this machine, as a job runs it: with one arena."""
    source = (
        "import sweeps.jobs.task; from lf.train import train; from toy import training;"
        "train(training('dtype=float32', 'steps=2', 'runtime.runs=elsewhere'));"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmPeak')][0])"
    )
    command, env = [sys.executable, "-c", source], place.env | {"MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, env=env, cwd=place.folder, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def damaged(folder: Path) -> str:
    """Shards of which one image is no image."""
    pattern = packed(folder, [24], size=16)
    file = folder / "part-000.tar"
    tar = bytearray(file.read_bytes())
    at = tar.rindex(b"\x89PNG")
    tar[at : at + 60] = b"x" * 60
    file.write_bytes(tar)
    return f"shards:{pattern}"


@pytest.fixture(scope="module")
def failed(place: Place) -> tuple[dict[str, dict[str, Any]], str]:
    """A sweep of which most cells fail, launched: its units, and what the launcher said."""
    cells: dict[str, dict[str, Any]] = {
        "well": {},
        "nan": {"lr": 1e30},
        "halved": {"batch": 16384, "steps": 2},  # 2 GiB; 8192 take half of it
        "big": {"batch": 4, "network": {"width": 512, "heads": 8, "depth": 2}, "ema": [0.9] * 64},
        "bug": {"schedule": {"name": "flawed"}},
        "user": {"seed": 1},
    }
    harmed = training("dtype=float32", "seed=1", f"runtime.runs={place.runs}")
    folder = training_run(harmed).folder
    folder.mkdir(parents=True)
    (folder / checkpoint.NAME).write_bytes(b"garbage")
    limit = address_space(place) + 1000 * 1024
    words = place.sweep(
        "many", cells, f"[job]\nparallel = 3\n[train]\nsetup = ['ulimit -v {limit}', 'export MALLOC_ARENA_MAX=1']\n"
    )
    code, out = place.do("launch", *words)
    assert code == 1, out
    return place.units("many"), out


def test_each_failure_is_classified_and_named_and_the_others_finish(
    failed: tuple[dict[str, dict[str, Any]], str], place: Place
) -> None:
    units, out = failed
    stopped = {
        "nan": ("nan", "not a number"),
        "big": ("memory", "memory|bad_alloc|failed to map segment"),  # whoever lacks it first
        "bug": ("bug", "ZeroDivisionError"),
        "user": ("user", "cannot read checkpoint"),
    }
    told = place.told("many")
    for case, (kind, message) in stopped.items():
        failure = place.failure(units[f"train {case}"])
        assert failure and failure["kind"] == kind and re.search(message, failure["message"]), (case, failure)
        assert re.search(f"failed: train {case} [^:]*: {kind}: ", out) and f"blocked: evaluate {case} " in out
        assert told[f"train {case}"] == "failed" and told[f"evaluate {case}"] == "blocked"
        assert sum("began" in line for line in place.attempts(units[f"train {case}"])) == 1, "none of these is retried"
    for case in ("well", "halved"):
        for kind in ("train", "evaluate"):
            assert place.done(units[f"{kind} {case}"]) and told[f"{kind} {case}"] == "done"
    assert "4 jobs done, 8 failed" in out
    assert "many: 2 of 6 cells done; jobs: 4 failed, 4 blocked, 4 done" in place.do("status", "many")[1]


def test_damaged_data_is_a_failure_of_its_own(place: Place) -> None:
    cells = {"data": {"data": damaged(place.folder / "shards")}}
    code, out = place.do("launch", *place.sweep("spoilt", cells, ""))
    failure = place.failure(place.units("spoilt")["train data"])
    assert code == 1 and re.search("failed: train data [^:]*: data: ", out) and "blocked: evaluate data " in out
    assert failure and failure["kind"] == "data" and "damaged images" in failure["message"]


def test_out_of_memory_it_goes_on_with_smaller_micro_batches_to_the_same_numbers(
    failed: tuple[dict[str, dict[str, Any]], str], place: Place, tmp_path: Path
) -> None:
    unit = failed[0]["train halved"]
    began, *halved, ended = place.attempts(unit)
    assert "began" in began and ended["outcome"] == "done"
    sizes = [int(line["message"].split()[-1]) for line in halved]
    assert sizes and sizes == [16384 >> (turn + 1) for turn in range(len(sizes))]
    assert {line["outcome"] for line in halved} == {"memory"}

    alone = training("dtype=float32", "batch=16384", "steps=2", f"runtime.runs={tmp_path}")
    train(alone)
    assert training_run(alone).id == unit["training"]
    one, other = (
        checkpoint.read(runs / "training" / unit["training"] / checkpoint.NAME)[0] for runs in (tmp_path, place.runs)
    )
    torch.testing.assert_close(other["losses"], one["losses"], rtol=1e-5, atol=1e-7)


def test_what_cannot_be_halved_any_more_stops(failed: tuple[dict[str, dict[str, Any]], str], place: Place) -> None:
    _, *halved, ended = place.attempts(failed[0]["train big"])
    assert [line["message"].split()[-1] for line in halved] == ["2", "1"] and ended["outcome"] == "memory"


def test_the_logs_show_the_attempts_and_the_traceback(
    failed: tuple[dict[str, dict[str, Any]], str], place: Place
) -> None:
    code, out = place.do("logs", "many", "train bug")
    assert code == 0 and "began as job" in out and " on n" in out
    assert "Traceback (most recent call last)" in out and "flawed.py" in out and "# the mistake" in out
    assert "submitit ERROR" in out, "what the job itself printed"
    code, out = place.do("logs", "many", "train halved")
    assert "retried with micro-batches of 8192" in out and "Traceback" not in out
    code, out = place.do("logs", "many", "train nonesuch")
    assert code == 2 and out.startswith("error: train nonesuch: no such task") and out.count("\n") == 1


def test_launched_again_nothing_that_stopped_is_repeated_and_a_retry_repeats_what_it_names(
    failed: tuple[dict[str, dict[str, Any]], str], place: Place
) -> None:
    units, _ = failed
    before = {name: place.attempts(unit) for name, unit in units.items()}
    words = ["many.py", "--executor=slurm", *PLAIN, "evaluation.n=8", "evaluation.steps=2"]
    code, out = place.do("launch", *words)
    assert code == 1 and "0 jobs done, 8 failed" in out
    assert {name: place.attempts(unit) for name, unit in units.items()} == before

    place.flaw(FLAWED.replace("t = t *", "t = 0 * t  #"))
    code, out = place.do("retry", "many", "train bug")
    place.flaw(FLAWED)
    assert code == 1 and "2 jobs done, 6 failed" in out
    assert place.done(units["train bug"]) and place.done(units["evaluate bug"])
    others = {name for name in units if not name.endswith("bug")}
    assert {name: place.attempts(units[name]) for name in others} == {name: before[name] for name in others}


def test_three_cells_with_one_mistake_hold_the_rest_until_it_is_mended(place: Place) -> None:
    cells = {f"flawed-{seed}": {"schedule": {"name": "flawed"}, "seed": 10 + seed, "steps": 2} for seed in range(4)}
    words = place.sweep("alike", cells, "[job]\nparallel = 1\n")
    code, out = place.do("launch", *words)
    units = place.units("alike")
    assert code == 1
    began = [name for name, unit in units.items() if place.attempts(unit)]
    assert len(began) == 3 and all(place.failure(units[name]) for name in began)
    held = json.loads((place.runs / "sweeps" / "alike" / "held.json").read_text())
    assert "3 tasks failed with the same traceback (ZeroDivisionError: division by zero)" in held["message"]
    assert sorted(held["units"]) == sorted(units[name]["key"] for name in began)
    others = [case for case in cells if f"train {case}" not in began]
    assert all(re.search(f"on_hold: train {case} [^:]*: {re.escape(held['message'])}", out) for case in others)
    told = place.told("alike")
    assert all(told[f"train {case}"] == "on_hold" for case in others) and all(told[name] == "failed" for name in began)

    place.flaw(FLAWED.replace("t = t *", "t = 0 * t  #"))
    place.sweep("alike", cells, "[job]\nparallel = 4\n")
    code, out = place.do("retry", "alike")
    place.flaw(FLAWED)
    assert code == 0, out
    assert all(place.done(unit) for unit in units.values()) and "8 jobs done, 0 failed" in out


def test_one_unit_is_cancelled_and_then_all_of_them(place: Place) -> None:
    cells = {f"long-{seed}": {"steps": 10**6, "seed": seed} for seed in range(3)}
    words = place.sweep("long", cells, "[job]\nparallel = 3\n")
    code, out = place.do("launch", *words, "--no-wait")
    assert code == 0 and "sweeps.status long" in out
    units = place.units("long")
    trains = [units[f"train {case}"] for case in cells]
    place.cluster.wait(lambda: all(place.attempts(unit) for unit in trains))
    jobs = {name: json.loads((place.runs / "jobs" / unit["key"] / "job.json").read_text())["job"]
            for name, unit in units.items()}  # fmt: skip

    code, out = place.do("cancel", "long", "train long-1")
    assert code == 0 and out.startswith("1 tasks cancelled")
    place.cluster.wait(lambda: place.cluster.squeue(jobs["train long-1"])[jobs["train long-1"]] == "CANCELLED")
    told = place.told("long")
    assert told["train long-1"] == "cancelled" and told["evaluate long-1"] == "blocked"
    assert told["train long-0"] == told["train long-2"] == "running"

    code, out = place.do("cancel", "long")
    assert code == 0 and out.startswith("4 tasks cancelled")
    place.cluster.wait(lambda: not {"RUNNING", "PENDING"} & {place.cluster.squeue()[job] for job in jobs.values()})
    assert all(place.failure(unit) for unit in trains) and set(place.told("long").values()) == {"cancelled", "blocked"}
