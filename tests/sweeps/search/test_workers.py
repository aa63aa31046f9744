"""The guidance search by several workers: those that die lose no trial, and each completes once."""

import json
import os
import signal
import time
from pathlib import Path

import optuna
import psutil
import pytest
from flufl.lock import Lock, NotLockedError
from searches import PLANE, SMALL
from toy import PATIENCE, Judged, start

from analysis import load
from analysis.figures import draw
from analysis.findings import findings
from analysis.scores import labels


def holder(lease: Path) -> psutil.Process | None:
    """The process that holds a lease."""
    try:
        _, pid, _ = Lock(str(lease)).details
        return psutil.Process(pid)
    except (OSError, psutil.Error, ValueError, NotLockedError):  # none does, or not any more
        return None


@pytest.mark.slow
def test_two_of_four_workers_are_killed_and_every_trial_completes_once(network: Path, judged: Judged) -> None:
    store = judged(network.parents[1])
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
        out, err = command.communicate(timeout=PATIENCE)
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
    assert set(draw(frame, store)) >= {"search", "guidance"}
    (found,) = findings(frame)
    assert f"(trial {frame.fd.idxmin()}), {frame.fd.min():.2f}, against {frame.fd[0]:.2f} unguided" in found
