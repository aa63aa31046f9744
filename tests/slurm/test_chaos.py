"""The longest sweeps on a real cluster, where all goes wrong: they end with the numbers of an undisturbed run."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from chaos import Chaos, Watch
from cluster import Cluster
from disturbed import Place, begun_at, processes_of, rows, same
from toy import Judged

from lf.storage import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.chaos]


@pytest.fixture
def place(cluster: Cluster, judged: Judged, tmp_path: Path) -> Iterator[Place]:
    with closing(Place(tmp_path, cluster, judged)) as made:
        yield made


def test_through_chaos_every_cell_ends_as_if_undisturbed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["seeds=0-23", "steps=600", "runtime.checkpoint_seconds=0.2"]
    undisturbed = place.one_by_one(place.alone, *words)
    watch, chaos = Watch(place, "mine"), Chaos(place, "mine", seed=4)
    launcher = place.launch("mine.py", "executor=slurm", *words)
    monkeypatch.chdir(place.folder)
    with place.cluster.active():
        watch.start()
        chaos.do({"requeue": 5, "cancel": 6, "kill": 6, "node": 2}, launcher, 300)
        before = len(rows(place.runs))
        shown = int(re.findall(r"(\d+) of 24 cells done", place.status("mine"))[0])
        assert before <= shown <= len(rows(place.runs))
        said = launcher.end()
        watch.stop()
    for command in undisturbed:
        command.end()

    assert chaos.hits == {"requeue": 5, "cancel": 6, "kill": 6, "node": 2} and chaos.saved > 0
    same(place.runs, place.alone, 24)
    assert len(rows(place.runs)) == 24
    units = place.units("mine")
    assert len(units) == 48 and all(place.there(unit) for unit in units)
    for unit in units:
        assert [line["outcome"] for line in place.attempts(unit) if "outcome" in line].count("done") <= 1
    jobs = Counter((unit["key"], line["job"]) for unit in units for line in place.attempts(unit) if "job" in line)
    assert max(jobs.values()) > 1, "no job was seen to begin twice"
    assert len(jobs) > len(units), "no unit was seen to have a second job"
    assert any(begun_at(place.training(unit)) > 0 for unit in units), "none went on from a checkpoint"

    assert len(watch.looks) > 30 and len(watch.rows) == 48
    assert {now.name for look in watch.looks for now in look[2].values()} >= {"pending", "running", "vanished", "done"}
    assert not watch.untruths(), "\n".join(watch.untruths())
    assert len(re.findall("^done  ", said, re.M)) == 48 and "48 jobs done, 0 failed" in said, said


def test_a_preempted_training_saves_itself_and_goes_on_from_that_step(place: Place) -> None:
    words = ["seeds=[0,1]", "steps=6000", "runtime.checkpoint_seconds=1e6"]  # nothing else saves
    # Of so short a job submitit takes every USR2 for the time limit's; else it says "preempted" and does the same.
    launcher = place.launch("mine.py", "executor=slurm", "cluster.job.hours=0.1", *words)
    wait, cluster = place.cluster.wait, place.cluster
    units = wait(lambda: [unit for unit in place.units("mine") if unit["kind"] == "train"])
    one, two = units

    def steps(unit: dict[str, Any]) -> int:
        file = place.training(unit) / "progress"
        return json.loads(file.read_text())["step"] if file.exists() else 0

    def outcomes(unit: dict[str, Any]) -> list[str]:
        return [line["outcome"] for line in place.attempts(unit) if "outcome" in line]

    wait(lambda: steps(one) and steps(two))
    cluster.run("scancel", "--signal=USR2", place.job(one))
    wait(lambda: outcomes(one) == ["preempted"])
    assert outcomes(two) == [] and not checkpoint.begun(place.training(two))
    hog = cluster.sbatch("sleep 1", "--partition=high", "--nodes=2", "--exclusive")
    wait(lambda: outcomes(two) == ["preempted"])
    saved = {unit["key"]: checkpoint.read(place.training(unit) / checkpoint.NAME)[1] for unit in units}
    assert all(0 < step < 6000 for step in saved.values())
    wait(lambda: cluster.squeue(hog).get(hog) == "COMPLETED")

    undisturbed = place.one_by_one(place.alone, *words)
    for command in (launcher, *undisturbed):
        command.end()
    same(place.runs, place.alone, 2)
    for unit in units:
        first, stopped, second, over = place.attempts(unit)
        assert stopped["message"] == "SIGUSR2" and over["outcome"] == "done"
        assert first["job"] == second["job"] == place.job(unit), "the same job, requeued"
        assert begun_at(place.training(unit)) == saved[unit["key"]]


@pytest.fixture
def bare(cluster_without_accounting: Cluster, judged: Judged, tmp_path: Path) -> Iterator[Place]:
    """A place where nobody remembers how a job ended."""
    with closing(Place(tmp_path, cluster_without_accounting, judged)) as made:
        yield made


def test_without_accounting_or_launcher_what_was_lost_is_told_and_the_same_command_goes_on(bare: Place) -> None:
    words = ["mine.py", "executor=slurm", "seeds=[0,1,2]", "steps=5000"]
    (bare.folder / "cluster.toml").write_text('[job]\nhours = 1\nextra = {nodelist = "n1"}\n')  # there is but one node
    wait, queue = bare.cluster.wait, bare.cluster.squeue
    assert "submitted" in bare.launch(*words, "--no-wait").end()
    units = bare.units("mine")
    jobs = {unit["key"]: bare.job(unit) for unit in units}
    assert len(set(jobs.values())) == 6 and set(jobs.values()) <= queue().keys()
    hit, *others = [unit for unit in units if unit["kind"] == "train"]
    wait(lambda: all(bare.attempts(unit) for unit in (hit, *others)))
    said = bare.status("mine")
    assert "0 of 3 cells done" in said and len(re.findall(r"^\d+ +running +train ", said, re.M)) == 3, said

    victims = processes_of(jobs[hit["key"]])
    assert victims and not bare.there(hit)
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    wait(lambda: queue().get(jobs[hit["key"]]) == "FAILED")
    time.sleep(3.5)  # for so long SLURM's last answer is good
    said = bare.status("mine")
    assert re.findall(r"^\d+ +vanished +train .*seed 0", said, re.M), said
    assert not any(unit["kind"] == "evaluate" and bare.there(unit) for unit in units)

    said = bare.launch(*words).end()
    assert "6 jobs done, 0 failed" in said and len(rows(bare.runs)) == 3
    assert "3 of 3 cells done" in bare.status("mine")
    first, second, over = bare.attempts(hit)
    assert first["job"] == jobs[hit["key"]] != second["job"] and over["outcome"] == "done"
    for unit in units:
        if unit["training"] != hit["training"]:
            began, over = bare.attempts(unit)
            assert began["job"] == jobs[unit["key"]] == bare.job(unit) and over["outcome"] == "done"
