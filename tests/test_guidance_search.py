"""The guidance search: workers that die lose no trial, equal points are evaluated once, any storage, the same study."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import psutil
import pytest
from flufl.lock import Lock, NotLockedError
from toy import LATENT, refusal, start, training

from analysis import load
from analysis.figures import figures
from analysis.findings import findings
from analysis.tables import labels
from lf import evaluate as door_of_evaluate
from lf import metrics
from lf.config import Evaluation
from lf.runs import TrainingRun, evaluation_run, find_training
from lf.train import train
from sweeps import guidance, retry, state
from sweeps import trials as trials_module
from sweeps.trials import Trials

SMALL = ["evaluation.n=16", "evaluation.steps=2", "executor=local", "runtime.compile=false", "runtime.threads=1"]
PLANE = ["scale=[1,3,0.25]", "begin=0", "end=1", "shift=1"]  # two scales and nothing else


@pytest.fixture
def quick() -> Iterator[None]:
    """A judge that is hardly trained, in this process: seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(metrics.RECIPE, "steps", 5)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained network."""
    config = training(LATENT, "schedule=cascaded", "lr=1e-2", f"runtime.runs={tmp_path_factory.mktemp('runs')}")
    train(config)
    (folder,) = (Path(config.runtime.runs) / "training").iterdir()
    return folder


@pytest.fixture
def network(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, in a store of its own."""
    return Path(shutil.copytree(trained.parents[1], tmp_path / "runs")) / "training" / trained.name


def searched(network: Path, *words: str, most: int = 12) -> Trials:
    """A search by one worker, in this process."""
    asked = guidance.command([*SMALL, f"runtime.runs={network.parents[1]}", *words])
    trial_words = asked.model_copy(update={"trials": most})
    with pytest.MonkeyPatch.context() as patch:

        def carry_out(sweep: Path, about: object, planned: guidance.Plan, *_: object, **__: object) -> bool:
            for chain in planned.chains:
                for unit in chain.units:
                    unit.run(0)
            return True

        patch.setattr(guidance, "carry_out", carry_out)
        return guidance.launch(trial_words, str(network), list(words))


def told(trials: Trials) -> list[tuple[object, ...]]:
    return [(t.number, t.state.name, t.params, t.values) for t in trials.study.trials]


def distinct(trials: Trials) -> int:
    """How many different evaluations the trials stand for."""
    points = (trials.space.unguided | trial.params for trial in trials.study.trials)
    return len({trials.space.evaluation(point).model_dump_json() for point in points})


def holder(lease: Path) -> psutil.Process | None:
    """The process that holds a lease."""
    try:
        _, pid, _ = Lock(str(lease)).details
        return psutil.Process(pid)
    except (OSError, psutil.Error, ValueError, NotLockedError):  # none does, or not any more
        return None


def test_the_best_settings_are_a_preset_that_asks_for_the_same_evaluation(
    quick: None, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = searched(network, "shift.pixels_latent=[0.5,1,0.25]", "scale=[1,3,0.25]", "begin=[0,0.2,0.1]")
    best = trials.study.best_trial
    (file,) = guidance.presets(trials, str(network))
    store = network.parents[1]
    before = len(list((store / "evaluation").iterdir()))
    door_of_evaluate.main([f"run={network.name}", f"preset={file}", f"runtime.runs={store}", "runtime.compile=false"])
    row = json.loads(capsys.readouterr().out)
    assert row["id"] == best.user_attrs["evaluation"] and row["fd"] == best.value
    assert len(list((store / "evaluation").iterdir())) == before
    assert {f.name for f in guidance.plots(trials)} == {"history.png", "importance.png", "contour.png"}


def test_the_unguided_point_comes_first_and_is_a_sweeps_unguided_evaluation(quick: None, network: Path) -> None:
    trials = searched(network, *PLANE, most=11)
    found = find_training(str(network), guidance.command([f"runtime.runs={network.parents[1]}"]).runtime)
    plain = evaluation_run(found, trials.space.evaluation(trials.space.unguided))
    first, *others = trials.study.trials
    assert first.params == {"scale.pixels": 1, "scale.pixels_latent": 1}
    assert first.user_attrs["evaluation"] == plain.id and plain.config["guidance"]["kind"] == "none"
    grid = {tuple(trial.params.values()) for trial in others[:8]}
    assert grid == {(a, b) for a in (1, 2, 3) for b in (1, 2, 3)} - {(1, 1)}
    seeds = {json.loads(f.read_text())["seed"] for f in (network.parents[1] / "evaluation").glob("*/row.json")}
    assert seeds == {0}  # the noise is common to all


def test_a_point_that_is_there_costs_nothing(quick: None, network: Path) -> None:
    first = searched(network, *PLANE, most=9)
    times = {f: f.stat().st_mtime_ns for f in (network.parents[1] / "evaluation").glob("*/row.json")}
    second = searched(network, *PLANE, "seed=1", most=9)  # another search over the same grid
    assert second.name != first.name and told(second) == told(first)
    assert {f: f.stat().st_mtime_ns for f in (network.parents[1] / "evaluation").glob("*/row.json")} == times


def test_trials_end_early_only_against_others_of_as_many_images(quick: None, network: Path) -> None:
    trials = searched(network, *PLANE, "early=8", most=14)
    states = Counter(trial.state.name for trial in trials.study.trials)
    assert states["PRUNED"] and states["COMPLETE"] and sum(states.values()) == 14
    for trial in trials.study.trials:
        assert set(trial.intermediate_values) == {8}
        earlier = [other.intermediate_values[8] for other in trials.study.trials[: trial.number]
                   if other.state.name == "COMPLETE"]  # fmt: skip
        if trial.state.name == "PRUNED":
            assert trial.intermediate_values[8] > sorted(earlier)[len(earlier) // 2 - 1]


@pytest.mark.parametrize("optimum", [(2.2, 1.4), (1.45, 2.7), (1.5, 1.9)])
def test_the_search_is_never_behind_a_grid_of_as_many_evaluations(
    network: Path, monkeypatch: pytest.MonkeyPatch, optimum: tuple[float, float]
) -> None:
    def score(pixels: float, latent: float) -> float:  # a tilted bowl with its optimum inside
        a, b = pixels - optimum[0], latent - optimum[1]
        return 30 + 4 * a * a + 6 * b * b + 3 * a * b

    def evaluate(_: TrainingRun, evaluation: Evaluation) -> dict[str, object]:
        scale = {"pixels": 1.0, "pixels_latent": 1.0, **evaluation.guidance.scale}
        return {"id": "none", "fd": score(scale["pixels"], scale["pixels_latent"])}

    monkeypatch.setattr(trials_module, "evaluate", evaluate)
    trials = searched(network, "scale=[1,3,0.05]", "begin=0", "end=1", "shift=1", most=25)
    found = [trial.value for trial in trials.study.trials]
    assert distinct(trials) == 25
    for side in (2, 3, 4, 5):
        values = [1 + 2 * i / (side - 1) for i in range(side)]
        grid = min(score(a, b) for a in values for b in values)
        assert min(found[: side * side]) <= grid + 1e-9, f"{side} x {side}"
    assert min(found) < 30.05


def test_a_retry_says_which_command_tries_again(quick: None, network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = searched(network, *PLANE, most=2)
    state.write(trials.folder, {"cells": [], "units": [{"training": network.name}], "words": ["scale=[1,3,0.25]"]})
    line = refusal(retry.main, [trials.name, f"runs={network.parents[1]}"], capsys)
    assert f"python -m sweeps.guidance {network.name} scale=[1,3,0.25]" in line


def test_no_evaluation_is_asked_for_twice(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # best where nothing of the latent's interval matters, as its scale is 1: many points, one evaluation
    def evaluate(_: TrainingRun, evaluation: Evaluation) -> dict[str, object]:
        scale = {"pixels": 1.0, "pixels_latent": 1.0, **evaluation.guidance.scale}
        return {"id": "none", "fd": (scale["pixels"] - 1.5) ** 2 + scale["pixels_latent"]}

    monkeypatch.setattr(trials_module, "evaluate", evaluate)
    assert distinct(searched(network, "scale=[1,2,0.25]", "begin=[0,0.2,0.1]", "end=1", "shift=1", most=30)) == 30


def test_several_objectives_give_a_front(quick: None, network: Path) -> None:
    trials = searched(network, *PLANE, "objectives=[fd,class_accuracy]", most=10)
    assert [d.name for d in trials.study.directions] == ["MINIMIZE", "MAXIMIZE"]
    front = guidance.best(trials)
    assert len(guidance.presets(trials, str(network))) == len(front)
    for trial in trials.study.trials:
        worse = [t for t in front if t.values[0] <= trial.values[0] and t.values[1] >= trial.values[1]]
        assert worse, trial  # nothing beats the front
    assert "pareto.png" in {f.name for f in guidance.plots(trials)}


def test_mistakes_are_one_line(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def line(*words: str) -> str:
        return refusal(guidance.main, [str(network), f"runtime.runs={network.parents[1]}", *SMALL, *words], capsys)

    assert "did you mean 'scale'" in line("scal=[1,2,0.1]")
    assert "allowed: pixels, pixels_latent" in line("scale.pixel=2")
    assert "[1, 2, 0.3]" in line("scale=[1,2,0.3]")
    assert "needs guide=" in line("kinds=[autoguidance]")
    assert "takes one objective" in line("early=4", "objectives=[fd,recall]")
    assert "did you mean 'precision'" in line("objectives=precison")
    assert "0 <= begin < end" in line("begin=0.7")
    assert "not in the space" in line("points=[{scale.pixels: 7}]")
    assert "storage=nosuch://x" in line("storage=nosuch://x")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URL of a PostgreSQL server of its own, on a socket in a temporary folder."""

    def cannot(why: str) -> None:
        (pytest.fail if os.environ.get("LF_NEED_POSTGRES") == "1" else pytest.skip)(f"no PostgreSQL here: {why}")

    root = os.geteuid() == 0
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) and root and shutil.which("apt-get"):
        quiet = os.environ | {"RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "-y", "--no-install-recommends", "postgresql"]):
            subprocess.run(["apt-get", "-qq", *words], env=quiet, capture_output=True, stdin=subprocess.DEVNULL)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        cannot("apt-get install postgresql, which needs root on Debian, brings it")
    folder = Path(tempfile.mkdtemp(prefix="lf-postgres-", dir="/tmp"))  # pytest's own is closed to other users
    user = "postgres" if root else None  # it refuses to run as root
    if user:
        shutil.chown(folder, user)

    def call(program: str, *words: str) -> None:
        done = subprocess.run(
            [found[-1].with_name(program), *words], user=user, cwd=folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, env=os.environ | {"LC_ALL": "C"},
        )  # fmt: skip
        if done.returncode:
            cannot(f"{program}: {done.stdout.strip()[-500:]}")

    try:
        call("initdb", "-D", str(folder / "data"), "-U", "lf", "-A", "trust", "-N", "-E", "UTF8")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        call("pg_ctl", "-D", str(folder / "data"), "-o", options, "-l", str(folder / "log"), "-w", "start")
        yield f"postgresql+psycopg://lf@/postgres?host={folder}"
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            call("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


def test_postgresql_and_journal_give_the_same_study(quick: None, network: Path, database: str) -> None:
    journal = searched(network, *PLANE, "seed=3", most=16)
    postgres = searched(network, *PLANE, "seed=3", f"storage={database}", most=16)
    assert told(journal) == told(postgres)
    assert len({tuple(trial.params.values()) for trial in journal.study.trials[9:]}) > 1  # the sampler chose, too
    opened = optuna.storages.RDBStorage(database)
    alone = optuna.load_study(study_name=postgres.name, storage=opened)  # by Optuna alone
    assert alone.best_value == journal.study.best_value
    opened.engine.dispose()  # its pool keeps connections


@pytest.mark.slow
def test_two_of_four_workers_are_killed_and_every_trial_completes_once(network: Path) -> None:
    store = network.parents[1]
    words = [str(network), "--trials", "14", "--workers", "4", *SMALL, *PLANE, f"runtime.runs={store}"]
    words += ["evaluation.n=400", "evaluation.steps=10"]
    command = start("sweeps.guidance", *words)
    killed: dict[int, int] = {}  # process → its trial
    try:
        while len(killed) < 2 and command.poll() is None:
            for lease in store.glob("sweeps/guidance-*/leases/[0-9]*"):
                if not lease.name.isdigit() or len(killed) == 2 or int(lease.name) in killed.values():
                    continue
                process = holder(lease)
                if process and process.pid not in killed:
                    try:
                        process.send_signal(signal.SIGSTOP)  # it cannot finish now
                    except psutil.NoSuchProcess:  # it just has
                        continue
                    study = optuna.load_study(
                        study_name=lease.parents[1].name,
                        storage=optuna.storages.JournalStorage(
                            optuna.storages.journal.JournalFileBackend(str(lease.parents[1] / "study.journal"))
                        ),
                    )
                    trial = study.trials[int(lease.name)]
                    if trial.state.name == "RUNNING" and "by" in trial.user_attrs:  # it evaluates
                        killed[process.pid] = int(lease.name)
                        process.kill()
                    else:
                        process.send_signal(signal.SIGCONT)
            time.sleep(0.01)
        out, err = command.communicate(timeout=300)
    finally:
        if command.poll() is None:
            os.killpg(command.pid, signal.SIGKILL)
    assert command.returncode == 0, out + err
    assert len(killed) == 2, out + err
    (file,) = store.glob("sweeps/guidance-*/trials-14.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["trial"] for row in rows] == list(range(14))
    assert {row["state"] for row in rows} == {"complete"}
    for row in rows:  # those of the killed were begun twice, the others once
        assert len(row["by"]) == 1 + (row["trial"] in killed.values()), row
        assert (store / "evaluation" / row["evaluation"] / "row.json").exists()

    frame = load(file.parent.name, store)  # a table, figures and a sentence of it, as of a sweep
    assert list(frame.trial) == list(range(14)) and labels(frame) == ["trial", "scale.pixels", "scale.pixels_latent"]
    assert set(figures(frame, store)) >= {"search", "guidance"}
    (found,) = findings(frame)
    assert f"(trial {frame.fd.idxmin()}), {frame.fd.min():.2f}, against {frame.fd[0]:.2f} unguided" in found
