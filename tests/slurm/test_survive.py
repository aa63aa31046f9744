"""Sweeps on a real cluster, where something goes wrong: every cell ends, once, as if nothing had."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from disturbed import Place, rows, same, within
from toy import PATIENCE, Judged

pytestmark = pytest.mark.slow

# Trainings with several evaluations, and one with one.
ORDERS = '''
"""Does the order matter?"""
from sweeps.cells import Cell

def cells(launch):
    for cells, alphas in ((2, (0.25, 4.0)), (1, (0.25, 4.0)), (0, (None,))):
        latents = [{"name": "pixels", "cells": cells}] if cells else []
        training = launch.train(seed=0, latents=latents, schedule="independent" if cells else "pixel_only")
        for alpha in alphas:
            path = {"path": {"name": "shifted", "alpha": alpha}} if alpha else {}
            yield Cell({"latent": cells, "alpha": alpha, "seed": 0}, training, launch.evaluate(**path))
'''
# One network of all orders, and two that begin with its weights; one of them is trained on in two steps.
TRUNK = '''
"""Does a trunk survive?"""
from sweeps.cells import Cell
from sweeps.specialise import specialised, trunk_of

def cells(launch):
    for order in ("cascaded", "shifted"):
        training = launch.train(latents=[{"name": "pixels", "cells": 2}], schedule=order)
        before = trunk = trunk_of(training, launch)
        for steps in (10, 20) if order == "cascaded" else (10,):
            short = specialised(training, trunk, steps)
            yield Cell({"order": order, "length": steps, "seed": 0}, short, launch.evaluate(), before)
            before = short
'''
TABLE = re.compile(r"^.* FD-\w+ ↓ +class ↑.*\n(?:.*\S.*\n)+", re.M)  # its header and rows


@pytest.fixture
def place(cluster: Cluster, judged: Judged, tmp_path: Path) -> Iterator[Place]:
    with closing(Place(tmp_path, cluster, judged)) as made:
        yield made


def test_two_launchers_at_once_run_every_cell_once_and_agree_with_one_machine(place: Place) -> None:
    (place.folder / "orders.py").write_text(ORDERS)
    tables = [TABLE.findall(place.launch("orders.py", "executor=local", "workers=2", runs=place.alone).end())]
    both = [place.launch("orders.py", "executor=slurm") for _ in range(2)]
    tables += [TABLE.findall(launcher.end()) for launcher in both]
    assert len(tables[0]) == 1 and len(tables[0][0].splitlines()) == 1 + 5 and tables[0] == tables[1] == tables[2]
    same(place.runs, place.alone, 3)
    assert len(rows(place.runs)) == 5

    units = place.units("orders")
    assert len(units) == 6
    for unit in units:
        began, over = place.attempts(unit)
        assert began["job"] == place.job(unit) and began["node"] in ("n1", "n2") and over["outcome"] == "done"
    assert set(place.cluster.sacct()) >= {place.job(unit) for unit in units}
    started = list((place.runs / "jobs" / "log").glob("*_0_log.out"))
    assert len(started) == len(units), "a job was submitted twice"


def test_a_job_that_dies_before_it_begins_is_tried_so_often_and_no_more(place: Place) -> None:
    (place.folder / "cluster.toml").write_text('retries = 1\n[job]\nhours = 1\nsetup = ["exit 1"]\n')
    launcher = place.launch("mine.py", "executor=slurm", "seeds=[0]", "steps=5")
    with pytest.raises(AssertionError, match="vanished: its job vanished 2 times"):
        launcher.end()
    trained, evaluated = place.units("mine")
    assert not place.attempts(trained) and not place.there(trained) and not place.there(evaluated)
    assert len(list((place.runs / "jobs" / "log").glob("*_submission.sh"))) == 4
    said = place.status("mine")
    for line in (r"^0 +\w{6} +failed +train", r"^1 +\w{6} +blocked +evaluate"):
        assert re.search(line, said, re.M), said


def test_while_the_controller_is_away_the_launcher_says_so_and_waits(place: Place) -> None:
    # squeue tries for 10 s without a MessageTimeout, and is asked five times. The controller's port may change.
    real, mine = place.cluster.folder / "slurm.conf", place.folder / "squeue"
    path = place.cluster.env["PATH"]
    mine.write_text(f"""#!/bin/sh
        export PATH="{path}" SLURM_CONF={mine}.$$
        (cat {real} && echo MessageTimeout=2) >$SLURM_CONF
        exec squeue "$@"
    """)
    mine.chmod(0o755)
    place.env["PATH"] = f"{place.folder}:{path}"
    launcher = place.launch("mine.py", "executor=slurm", "seeds=[0]", "steps=500")
    place.cluster.wait(lambda: any(place.attempts(unit) for unit in place.units("mine")))
    os.kill(int((place.cluster.folder / "slurmctld.pid").read_text()), signal.SIGKILL)
    try:
        assert within(PATIENCE, lambda: "SLURM does not answer, waiting: squeue" in launcher.output.read_text())
        assert launcher.runs
    finally:
        place.cluster.start()
    assert "2 jobs done, 0 failed" in launcher.end()


@pytest.mark.chaos
def test_a_trunk_whose_node_stops_and_whose_job_is_lost_is_trained_once_and_the_others_wait(place: Place) -> None:
    (place.folder / "trunk.py").write_text(TRUNK)
    words = ["steps=1500", "runtime.checkpoint_seconds=0.2"]
    launcher = place.launch("trunk.py", "executor=slurm", *words)
    cluster = place.cluster

    def saved() -> dict[str, Any]:
        """The trunk, as soon as it trains and has a checkpoint."""
        units = place.units("trunk")
        there = units and any(place.training(units[0]).glob("checkpoint*")) and place.attempts(units[0])
        return units[0] if there else {}

    trunk = cluster.wait(saved)
    first, others = place.job(trunk), place.units("trunk")[1:]
    waiting = [unit for unit in others if unit["kind"] == "train"]
    assert len(waiting) == 3 and len(others) == 6
    for unit in waiting:
        state = cluster.show(place.job(unit))
        assert state["JobState"] == "PENDING" and state["Reason"] == "Dependency", state
    assert f"{len(others)} pending" in place.status("trunk")

    with cluster.active():
        node = place.attempts(trunk)[0]["node"]
        cluster.stop_node(node)
        try:
            cluster.run("scancel", first)  # its job is lost as well, and those that waited for it with it
            cluster.wait(lambda: place.job(trunk) != first)
            cluster.wait(lambda: len([line for line in place.attempts(trunk) if "began" in line]) > 1)
        finally:
            cluster.start_node(node)
        assert "7 jobs done, 0 failed" in launcher.end()

    for unit in place.units("trunk"):
        assert place.there(unit)
        done = [line["outcome"] for line in place.attempts(unit) if "outcome" in line].count("done")
        # A process of a stopped node may live on and finish the trunk; its new job waits for it, and finds it done.
        assert done == 1 or unit["key"] == trunk["key"] and done == 2
    place.launch("trunk.py", "executor=local", "workers=2", *words, runs=place.alone).end()
    same(place.runs, place.alone, 4)
