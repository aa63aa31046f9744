"""A folder for each page, with its files, its plugins and the runs that its commands name."""

import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pages import STAND_INS, blocks_of

from lf.config import Training, preset
from lf.core.plugins import found
from sweeps.jobs import profile


@pytest.fixture(scope="session")
def desks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A folder for each page with its files, with its plugins installed, and with what its commands name."""
    made: dict[Path, Path] = {}

    def desk(page: Path) -> Path:
        if page not in made:
            made[page] = tmp_path_factory.mktemp(page.stem)
            _fill(made[page], page)
        return made[page]

    return desk


def _fill(desk: Path, page: Path) -> None:
    for block in blocks_of(page):
        if name := block.note("file"):
            (desk / name).write_text(block.text)
    if (desk / "pyproject.toml").exists():  # as pip leaves it
        about = tomllib.loads((desk / "pyproject.toml").read_text())["project"]
        told = desk / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
        told.mkdir()
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
        groups = about["entry-points"].items()
        text = [f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in points.items()) for group, points in groups]
        (told / "entry_points.txt").write_text("".join(text))
    for run, name in STAND_INS.items():
        config = Training.model_validate(preset(name)["training"] | {"data": "shards:/data/in256"})
        folder = desk / "runs" / "training" / run
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(config.model_dump_json(exclude={"runtime"}))
    vae = '{"_class_name": "AutoencoderKL", "latent_channels": 4, "block_out_channels": [8, 8, 8, 8]}'
    (desk / "FOLDER").mkdir()
    (desk / "FOLDER" / "config.json").write_text(vae)
    cells = {"order_ablation: tiny cascaded": "ID", "tiny photos": "RUN"}  # runs that a page names by what they are
    for name, run in cells.items():
        manifest = desk / "runs" / "sweeps" / name.partition(":")[0] / "sweep.json"
        manifest.parent.mkdir(parents=True)
        unit = {"kind": "train", "training": run, "title": name.rpartition(": ")[2]}
        manifest.write_text(json.dumps({"units": [unit], "cells": []}))
    presets = {
        "guidance": "evaluation:\n  guidance: {kind: cfg, scale: {pixels: 1.5}}\n",
        "order": json.dumps({"training": preset("shapes")["training"]}),
    }
    for kind, written in presets.items():
        search = desk / "runs" / "sweeps" / f"{kind}-ID"
        search.mkdir(parents=True)
        (search / f"{kind}.yaml").write_text(written)


@pytest.fixture
def at(desks: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Path]]:
    """Goes to the folder of a page; its modules and plugins are there until the test ends."""
    before = set(sys.modules)

    def go(page: Path) -> Path:
        desk = desks(page)
        monkeypatch.chdir(desk)
        monkeypatch.syspath_prepend(str(desk))
        monkeypatch.setattr(profile, "USER", desk / "none")
        found.cache_clear()
        return desk

    yield go
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(os.getcwd()):
            del sys.modules[name]
    monkeypatch.undo()
    found.cache_clear()
