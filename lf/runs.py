"""The run store: one folder a run, named by its identity; equal identity, done already.

runs/training/<id>/{config.json, row.json, checkpoint.safetensors, tensorboard…}
runs/evaluation/<id>/{config.json, row.json, samples.safetensors}
runs/tokenizer/<id>/{config.json, row.json, reconstructions.png}
runs/cache/ (data, encoders, judges)   runs/sweeps/ (what each sweep launched last)
"""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from lf import checkpoint, data
from lf.claims import claim, held
from lf.config import Evaluation, Judging, Runtime, Source, Training, identity
from lf.denoiser import training_of
from lf.encoders import Encoder
from lf.errors import UserError, nearest
from lf.files import replace, sha256
from lf.metrics import JUDGE, RECIPE


@dataclass(frozen=True)
class Run:
    """One run's folder. ``config`` is what made its identity, fully resolved."""

    folder: Path
    config: dict[str, Any] = field(compare=False)

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def row(self) -> dict[str, Any] | None:
        """The run's result, or None as long as it is not done."""
        file = self.folder / "row.json"
        return json.loads(file.read_text()) if file.exists() else None

    @property
    def state(self) -> str:
        """``done``, ``running`` (somebody holds it), ``begun`` (a checkpoint waits) or ``new``."""
        if self.row is not None:
            return "done"
        if held(self.folder / "lock"):
            return "running"
        return "begun" if checkpoint.begun(self.folder) else "new"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the run for this process; another that wants it waits until it is done or dropped."""
        with claim(self.folder / "lock"):
            if not (self.folder / "config.json").exists():
                replace(self.folder / "config.json", json.dumps(self.config, indent=1))
            yield

    def put_aside(self) -> None:
        """Moves what is there out of the way, under a name that tells when; the run is new again."""
        if self.folder.exists():
            with claim(self.folder / "lock"):
                aside = self.folder.with_name(f"{self.id}.{time.strftime('%Y%m%d-%H%M%S')}")
                aside.mkdir()
                for file in self.folder.iterdir():
                    if not file.name.startswith("lock"):
                        file.rename(aside / file.name)

    def finish(self, row: dict[str, Any]) -> dict[str, Any]:
        """Writes the result, with the code's revision and the machine; returns it."""
        row = {"id": self.id, **row, "revision": revision(), "machine": f"{platform.machine()} {os.cpu_count()} CPUs"}
        replace(self.folder / "row.json", json.dumps(row) + "\n")
        return row


@dataclass(frozen=True)
class TrainingRun(Run):
    """A training's folder: this store's, or one that `lf.convert` or ``save_pretrained`` wrote."""

    training: Training = field(compare=False)

    @property
    def id(self) -> str:
        return identity(self.config)


def training_run(config: Training) -> TrainingRun:
    """Where the training of ``config`` is, done or not. Its identity: the config and the data's digest."""
    what = config.model_dump(mode="json", exclude={"runtime"})
    what["data_digest"] = data.digest(config.data, config.resolution)
    return TrainingRun(Path(config.runtime.runs) / "training" / identity(what), what, config)


def find_training(name: str, runtime: Runtime) -> TrainingRun:
    """A training run by id or folder. Raises `UserError` if there is none."""
    store = Path(runtime.runs) / "training"
    folder = Path(name) if (Path(name) / "config.json").exists() else store / name
    if not name or not (folder / "config.json").exists():
        ids = [child.name for child in store.iterdir()] if store.is_dir() else []
        known = nearest(name, ids) if ids else f"{store} holds none yet"
        raise UserError(f"run={name}: no such training run; {known}")
    training = training_of(folder, runtime=runtime.model_dump())
    return TrainingRun(folder, json.loads((folder / "config.json").read_text()), training)


def evaluation_run(trained: TrainingRun, config: Evaluation) -> Run:
    """Where the evaluation of a training is.

    Its identity: the training's, the times that the path goes through, all other settings, what judges it.
    """
    training = trained.training
    settings = config.model_dump(mode="json", include=set(Evaluation.model_fields) - {"path", "shift"})
    what = {"training": trained.id, **settings, **_judged_by(config)}
    if config.guidance.guide:  # however it was spelt
        guide = find_training(config.guidance.guide, training.runtime)
        what["guidance"] = {**what["guidance"], "guide": guide.id}
    name = identity(what, config.path_for(training).tolist())
    schedule = (config.path or training.schedule).over(len(training.streams))
    folder = Path(training.runtime.runs) / "evaluation" / name
    return Run(folder, what | {"path": schedule.model_dump(mode="json"), "shift": config.shift})


def tokenizer_run(encoder: Encoder, patch: int, source: Source, judging: Judging) -> Run:
    """Where the scores of a tokenizer are. Its identity: its recipe, the data's digest, what judges it."""
    what = {
        "tokenizer": encoder.model_dump(mode="json", exclude={"loss_weight"}),
        "patch": patch,
        "data": source.data,
        "resolution": source.resolution,
        "data_digest": data.digest(source.data, source.resolution),
        "n": judging.n,
        "features": list(judging.features),
        **_judged_by(judging),
    }
    return Run(Path(source.runtime.runs) / "tokenizer" / identity(what), what)


def _judged_by(judging: Judging) -> dict[str, Any]:
    """The content of the references and, where it judges, the judge's recipe."""
    references = {name: _content(name, file) for name, file in judging.reference.items()}
    return {"reference": references} | ({"judge": RECIPE} if JUDGE in judging.features else {})


def _content(name: str, file: str) -> str:
    try:
        return sha256(Path(file))[:16]
    except OSError as error:
        raise UserError(f"reference.{name}={file}: {error.strerror}") from None


@cache
def revision() -> str:
    """The code's git revision, with ``+`` where the tree is changed; ``unknown`` outside a checkout."""
    where = Path(__file__).parent
    if (where.parent / "REVISION").exists():  # a copy made for a sweep's jobs
        return (where.parent / "REVISION").read_text()
    try:
        git = ["git", "-C", str(where)]
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.strip() + ("+" if changed.strip() else "")
