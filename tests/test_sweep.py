"""Sweeps: a launch does what is missing and nothing else, whatever happened to the one before."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import psutil
import pytest
from rich.console import Console
from toy import PLAIN, WORDS, files, refusal, run, start

from analysis import figures, results, tables
from lf import metrics
from lf.claims import claim
from lf.errors import UserError
from lf.files import replace
from sweeps import jobs, launch, order_ablation, state
from sweeps.plan import Cell, Launch, plan

NAME = "order_ablation"
CELLS = 18  # two latents along 8 paths each, and two models trained for one order
SWEEP = [NAME, *WORDS, *PLAIN, "evaluation.n=32", "evaluation.steps=4", "workers=2"]


def rows(store: Path, kind: str = "evaluation") -> dict[str, dict[str, object]]:
    return {file.parent.name: json.loads(file.read_text()) for file in (store / kind).glob("*/row.json")}


def scores(store: Path) -> dict[str, tuple[object, ...]]:
    return {name: (row["fd"], row["class_accuracy"], row["real_fd"]) for name, row in rows(store).items()}


def runs_of(store: Path) -> dict[str, tuple[int, bytes]]:
    return {f"{kind}/{name}": file for kind in ("training", "evaluation") for name, file in files(store / kind).items()}


def settings_of(store: Path) -> Launch:
    return launch.settings([*SWEEP[1:], f"runtime.runs={store}"])


def cells_of(store: Path) -> list[Cell]:
    return list(order_ablation.cells(settings_of(store)))


# In one process, with an encoder and a judge that are hardly trained: seconds.


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Makes all that must be fitted once quick to fit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(metrics.RECIPE, "steps", 5)
        latents = ({"name": "pixels", "cells": 2}, {"name": "tiny", "steps": 5, "width": 8})
        patch.setitem(order_ablation.LATENTS, "shapes", latents)
        patch.setattr(launch, "console", Console(width=300))
        yield


@pytest.fixture(scope="module")
def store(quick: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run store in which the sweep is done."""
    place = tmp_path_factory.mktemp("store")
    for chain in plan(cells_of(place), settings_of(place).resolved).chains:
        for unit in chain.units:
            unit.run(0)
    launch.main([*SWEEP, f"runtime.runs={place}"])  # nothing is left to do but the manifest and the report
    return place


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    """A copy of the store, to harm."""
    return Path(shutil.copytree(store, tmp_path / "copy"))


@pytest.fixture
def dry(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What ``--dry-run`` prints."""

    def show(place: Path, *words: str) -> str:
        capsys.readouterr()
        launch.main([*SWEEP, "--dry-run", f"runtime.runs={place}", *words])
        return capsys.readouterr().out

    return show


def planned(out: str) -> list[str]:
    """The lines of the plan that stand for a training."""
    return [line for line in out.splitlines() if " seed " in line]


def test_a_dry_run_on_a_fresh_store_lists_new_cells_and_writes_nothing(
    quick: None, tmp_path: Path, dry: Callable[..., str]
) -> None:
    out = dry(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    assert len(planned(out)) == 4 and all(" new " in line for line in planned(out))
    assert "240 training steps and 576 images" in out


def test_a_dry_run_on_a_finished_store_lists_cached_cells_and_writes_nothing(
    store: Path, dry: Callable[..., str]
) -> None:
    before = files(store)
    out = dry(store)
    assert len(planned(out)) == 4 and all(" cached " in line for line in planned(out))
    assert "to do" not in out
    assert files(store) == before


def test_a_dry_run_names_the_field_that_made_a_training_new(store: Path, dry: Callable[..., str]) -> None:
    out = dry(store, "lr=2e-3")
    assert all(" new " in line and line.rstrip().endswith("lr 0.001→0.002") for line in planned(out))
    assert "240 training steps and 576 images" in out and " s a step" in out
    out = dry(store, "seeds=[0,1]")
    assert [" cached " in line for line in planned(out)] == [True] * 4 + [False] * 4
    assert all("seed 0→1" in line for line in planned(out)[4:])


def test_a_dry_run_names_the_field_that_made_an_evaluation_new(store: Path, dry: Callable[..., str]) -> None:
    out = dry(store, "evaluation.n=40")
    assert all(" cached " in line and "n 32→40" in line for line in planned(out))
    assert "0 training steps and 720 images" in out


def test_a_dry_run_names_what_is_running(copy: Path, dry: Callable[..., str]) -> None:
    first = cells_of(copy)[0].trained
    (first.folder / "row.json").unlink()
    with first.held():
        assert " running " in planned(dry(copy))[0]
    assert " begun " in planned(dry(copy))[0]


def test_a_part_of_the_cells_is_asked_for_by_their_titles(
    store: Path, dry: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = dry(store, "--only", "pixel_only", "seeds=[0,1]")
    assert [" cached " in line for line in planned(out)] == [True, False]
    assert "60 training steps and 32 images" in out
    words = [*SWEEP, "--dry-run", "--only", "pixel-only", f"runtime.runs={store}"]
    said = refusal(launch.main, words, capsys)
    assert "--only pixel-only: no such cell" in said and "one is called 'tiny independent seed 0 shifted" in said


def test_one_cell_is_run_in_this_process_and_nothing_else(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = results.load(NAME, copy).set_index("model").loc["pixel_only"]
    done = scores(copy)
    shutil.rmtree(copy / "training" / row.training_id)
    for name in done:
        shutil.rmtree(copy / "evaluation" / name)
    before = files(copy / "sweeps"), (copy / "jobs").exists()
    capsys.readouterr()
    launch.main([*SWEEP, "--local", "pixel_only", f"runtime.runs={copy}"])
    assert f'"id": "{row.evaluation_id}"' in capsys.readouterr().out
    assert scores(copy) == {row.evaluation_id: done[row.evaluation_id]}, "the same to the last bit"
    assert (files(copy / "sweeps"), (copy / "jobs").exists()) == before, "nothing is submitted"


def test_the_list_names_the_sweep_and_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    launch.main(["--list"])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(NAME))
    assert "Does the order of denoising matter" in line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["order_ablatoin"], "order_ablation"),
        ([NAME, "stps=10"], "'steps'"),
        ([NAME, "evaluation.stps=4"], "'steps'"),
        ([NAME, "network.widht=4"], "'width'"),
        ([NAME, "workrs=2"], "'workers'"),
        ([NAME, "lr=fast"], "lr='fast'"),
        ([NAME, "steps=0"], "steps=0"),
        ([NAME, "evaluation.steps=5"], "steps=5"),
        ([NAME, "schedule=cascaded"], "schedule"),
        ([NAME, "preset=imagenet"], "imagenet256"),
        ([NAME, "preset=lf_l_200"], "imagenet256"),
        ([NAME, "data=digit"], "digits"),
        ([NAME, "data=folder:/nonesuch"], "/nonesuch"),
        ([NAME, "seeds=[]"], "seeds"),
        ([NAME, "--executor=slrm"], "slurm"),
        ([NAME, "nonsense"], "nonsense"),
        ([], NAME),
    ],
)
@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_bad_input_is_one_line_and_writes_nothing(
    words: list[str], named: str, dry_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*words, *dry_run] + ([f"runtime.runs={tmp_path / 'runs'}"] if words else [])
    assert named in refusal(launch.main, asked, capsys)
    assert not list(tmp_path.iterdir())


def test_slurm_without_a_cluster_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sbatch" in refusal(launch.main, [*SWEEP, "--executor=slurm", f"runtime.runs={tmp_path / 'runs'}"], capsys)


def test_the_table_has_a_row_a_cell_and_the_floor(store: Path) -> None:
    frame = results.load(NAME, store)
    assert len(frame) == CELLS and frame.fd.notna().all() and frame.protocol.nunique() == frame.budget.nunique() == 1
    text = tables.markdown(frame).partition("Published")[0]
    lines = [line for line in text.splitlines() if line.startswith(("| tiny", "| pixels", "| none"))]
    assert len(lines) == CELLS and "FD-digits" in text and "FID" not in text and "missing" not in text
    assert f"FD-digits {frame.real_fd.iloc[0]:.3g}" in text
    assert "32 images" in text and "4 steps" in text


def test_a_cell_that_is_not_done_is_missing_in_the_table_and_in_the_figures(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = results.load(NAME, copy).iloc[3]
    shutil.rmtree(copy / "evaluation" / gone.evaluation_id)
    frame = results.load(NAME, copy)
    assert len(frame) == CELLS and frame.fd.isna().sum() == 1
    lines = [line for line in tables.markdown(frame).splitlines() if "missing" in line]
    assert len(lines) == 1 and tables.path_label(gone.path, gone.alpha) in lines[0] and gone.latent in lines[0]
    assert tables.table(frame).fd.isna().sum() == 1
    monkeypatch.setattr(results, "RESULTS", copy / "results")
    matplotlib.use("agg")
    written = figures.write(frame, copy / "figures", copy)
    assert {file.name for file in written} >= {"alpha.png", "paths.pdf", "samples.png"}
    assert all(file.stat().st_size > 1000 for file in written)


def test_rows_of_two_protocols_or_budgets_share_no_table(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    file = results.export(NAME, store) / "rows.jsonl"
    exported = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(exported) == CELLS
    same = results.load(NAME, runs=None)
    assert list(same.fd) == list(results.load(NAME, store).fd)
    assert len(results.samples(same, runs=None)) == CELLS
    for kind, key, value in (("protocol", "n", 50_000), ("protocol", "judging", {}), ("budget", "lr", 1.0)):
        changed = exported[5] | {kind: json.dumps(json.loads(exported[5][kind]) | {key: value}, sort_keys=True)}
        lines = [json.dumps(row) for row in [*exported[:5], changed, *exported[6:]]]
        file.write_text("\n".join(lines) + "\n")
        with pytest.raises(UserError, match=rf"{kind}.*: {key}.* in 1 row \({exported[5]['title']}\)"):
            tables.markdown(results.load(NAME, runs=None))


# As a user runs it: real processes, the real encoder and the real judge.


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store filled by one undisturbed launch, and what the launch printed."""
    place = tmp_path_factory.mktemp("launched")
    code, out, err = run("sweeps.launch", *SWEEP, f"runtime.runs={place}")
    assert code == 0, out + err
    return place, out


@pytest.mark.slow
def test_a_launch_does_all_cells_and_prints_the_table(launched: tuple[Path, str]) -> None:
    place, out = launched
    assert len(rows(place)) == CELLS and len(rows(place, "training")) == 4
    assert tables.own(results.load(NAME, place)) in out
    line = next(line for line in out.splitlines() if line.startswith("written: "))
    written = [Path(name) for name in line.removeprefix("written: ").split(", ")]
    assert len(written) >= 8 and all(file.stat().st_size for file in written)


@pytest.mark.slow
def test_the_same_launch_again_computes_nothing(launched: tuple[Path, str]) -> None:
    place, first = launched
    before, submitted = runs_of(place), sorted((place / "jobs").iterdir())
    code, out, err = run("sweeps.launch", *SWEEP, f"runtime.runs={place}")
    assert code == 0, err
    assert runs_of(place) == before and sorted((place / "jobs").iterdir()) == submitted
    assert [line for line in out.splitlines() if line.startswith("| ")] == [
        line for line in first.splitlines() if line.startswith("| ")
    ]


def launch_and_kill(words: list[str], ready: Callable[[], bool]) -> None:
    """Starts a launch and kills it and all its children as soon as ``ready``."""
    process = start("sweeps.launch", *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


@pytest.mark.slow
def test_killed_twice_and_launched_again_it_scores_as_if_undisturbed(
    launched: tuple[Path, str], tmp_path: Path
) -> None:
    place = tmp_path / "runs"
    shutil.copytree(launched[0] / "cache", place / "cache")  # data, encoder and judge: equal, and not made again
    words = [*SWEEP, f"runtime.runs={place}", "runtime.checkpoint_seconds=1e-6"]

    launch_and_kill(words, lambda: any(place.glob("training/*/checkpoint.safetensors")))
    assert not rows(place, "training") and not rows(place), "killed in the middle of a training"
    launch_and_kill(words, lambda: len(list(place.glob("evaluation/*/row.json"))) >= 2)
    assert 2 <= len(rows(place)) < CELLS, "killed between two evaluations"
    before = {name: file for name, file in runs_of(place).items() if name.endswith("row.json")}

    code, out, err = run("sweeps.launch", *words)
    assert code == 0, out + err
    assert scores(place) == scores(launched[0]) and len(scores(place)) == CELLS
    after = runs_of(place)
    assert {name: after[name] for name in before} == before, "what was done is done again"


@pytest.mark.slow
def test_a_cell_that_fails_is_named_and_the_others_finish(launched: tuple[Path, str], tmp_path: Path) -> None:
    place = Path(shutil.copytree(launched[0], tmp_path / "runs"))
    frame = results.load(NAME, place)
    for model in ("cascaded", "pixel_only"):
        row = frame[frame.model == model].iloc[0]
        shutil.rmtree(place / "evaluation" / row.evaluation_id)
        shutil.rmtree(place / "training" / row.training_id)
        if model == "cascaded":
            harmed = place / "training" / row.training_id / "checkpoint.safetensors"
            harmed.parent.mkdir()
            harmed.write_bytes(b"garbage")

    code, out, err = run("sweeps.launch", *SWEEP, f"runtime.runs={place}")
    assert code == 1, out + err
    failed = [line for line in out.splitlines() if line.startswith("failed: ")]
    assert (
        len(failed) == 1 and "train tiny cascaded seed 0" in failed[0] and "user: cannot read checkpoint" in failed[0]
    )
    assert [line for line in out.splitlines() if line.startswith("blocked: evaluate tiny cascaded seed 0")]
    assert any(line.startswith("done") and "pixel_only" in line for line in out.splitlines())
    assert "2 jobs done, 2 failed" in out and harmed.read_bytes() == b"garbage"
    assert len(rows(place)) == CELLS - 1
    (missing,) = [line for line in out.splitlines() if line.startswith("|") and "missing" in line]
    assert [word.strip() for word in missing.split("|")[1:4]] == ["tiny", "cascaded", "cascaded"]
    assert scores(place).items() < scores(launched[0]).items()


@pytest.mark.slow
def test_cells_that_are_forced_are_run_again_to_the_same_scores(launched: tuple[Path, str], tmp_path: Path) -> None:
    place = Path(shutil.copytree(launched[0], tmp_path / "runs"))
    before = runs_of(place)
    code, out, err = run("sweeps.launch", *SWEEP, "--force", "--only", "pixel_only", f"runtime.runs={place}")
    assert code == 0, out + err
    after = runs_of(place)
    again = [name for name in before if name.endswith("/row.json") and after[name] != before[name]]
    assert sorted(name.partition("/")[0] for name in again) == ["evaluation", "training"]
    kept = {name.split("/")[1].partition(".")[0] for name in after if "." in name.split("/")[1]}
    assert kept == {name.split("/")[1] for name in again}, "what was there is put aside"
    assert {name: scores(place)[name] for name in scores(launched[0])} == scores(launched[0])


FAILING = '''
"""Does the first failure end it?"""
from sweeps.plan import Cell

def cells(launch):
    yield Cell({"case": "fails"}, launch.train(lr=1e30, steps=50), launch.evaluate())
    for seed in range(2):
        yield Cell({"case": f"long {seed}"}, launch.train(lr=1e-3, steps=10**6, seed=seed), launch.evaluate())
'''


@pytest.mark.slow
def test_to_fail_fast_ends_all_at_the_first_failure(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    words = [word for word in WORDS if not word.startswith(("lr=", "steps="))]
    asked = [
        str(tmp_path / "failing.py"),
        *words,
        *PLAIN,
        "evaluation.n=8",
        "workers=2",
        f"runtime.runs={tmp_path}/runs",
    ]
    code, out, err = run("sweeps.launch", *asked, "--fail-fast")
    assert code == 1, out + err
    assert "failed: train fails: nan: " in out and not rows(tmp_path / "runs", "training")
    jobs = [json.loads(file.read_text())["job"] for file in (tmp_path / "runs" / "jobs").glob("*/job.json")]
    begun = [int(job) for job in jobs if job.isdigit()]
    deadline = time.monotonic() + 30
    while (alive := [job for job in begun if Path(f"/proc/{job}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert begun and not alive, "the others are ended"


# What jobs leave behind.


def test_a_note_that_a_dying_machine_tore_spoils_no_other(tmp_path: Path) -> None:
    jobs.attempted(tmp_path, began=1)
    with (tmp_path / "attempts.jsonl").open("a") as file:
        file.write('{"ended": 2, "outc')
    assert jobs.attempts(tmp_path) == [{"began": 1}]
    jobs.attempted(tmp_path, began=3)
    assert jobs.attempts(tmp_path) == [{"began": 1}, {"began": 3}]


def test_a_job_of_this_machine_lives_until_it_and_all_below_it_are_killed() -> None:
    shell = subprocess.Popen(["bash", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    assert shell.stdout
    child = int(shell.stdout.readline())
    job = {"job": str(shell.pid), "host": socket.gethostname(), "at": time.time()}
    assert jobs.lives(job) and not jobs.lives(job | {"host": "elsewhere"})
    assert not jobs.lives(job | {"at": time.time() - 60}), "the number is another's by now, which began later"
    jobs.kill([str(shell.pid)])
    shell.communicate()
    assert not jobs.lives(job)
    deadline = time.monotonic() + 30
    while psutil.pid_exists(child) and psutil.Process(child).status() != "zombie" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"


def test_what_another_machine_runs_is_running_as_long_as_it_holds_the_run(copy: Path) -> None:
    sweep, manifest = state.read(NAME, copy)
    unit = manifest["units"][0]
    (copy / unit["rows"][0]).unlink()
    job = {"job": "1", "on": "local", "host": "elsewhere", "at": 0, "submitted": [0]}
    replace(copy / "jobs" / unit["key"] / "job.json", json.dumps(job))
    with claim((copy / unit["rows"][0]).with_name("lock")):
        assert state.states(sweep, [unit], {})[unit["key"]].name == "running"
    assert state.states(sweep, [unit], {})[unit["key"]].name == "lost"


def test_what_is_left_out_stays_missing_in_the_sweep(copy: Path) -> None:
    asked = cells_of(copy)
    manifest = plan(launch.chosen(asked, "pixel_only"), settings_of(copy).resolved).manifest(asked)
    assert len(manifest["cells"]) == CELLS and [unit["kind"] for unit in manifest["units"]] == ["train", "evaluate"]
