"""Run store: one folder per run, named by its identity; a finished identity is not rerun.

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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from lf import data
from lf.config import Evaluation, ScoringConfig, Source, Training, identity
from lf.config.schema import training_of
from lf.core.errors import UserError, nearest
from lf.core.runtime import Runtime
from lf.encoders import Encoder
from lf.metrics import JUDGE, RECIPE
from lf.storage import checkpoint
from lf.storage.atomic import replace, sha256
from lf.storage.json_files import read_json
from lf.storage.lease import held, lease


@dataclass(frozen=True)
class Run:
    """One run's folder. ``config`` is the resolved config that its identity is the hash of."""

    folder: Path
    config: dict[str, Any] = field(compare=False)

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def row(self) -> dict[str, Any] | None:
        """The run's result; None if it is not finished."""
        return read_json(self.folder / "row.json", "id")

    @property
    def state(self) -> str:
        """``done``, ``running`` (a process holds its lease), ``begun`` (it has a checkpoint) or ``new``."""
        if self.row is not None:
            return "done"
        if held(self.folder / "lock"):
            return "running"
        return "begun" if checkpoint.begun(self.folder) else "new"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the run's lease; another process that wants it waits until the lease is released or expires.

        A finished run needs none: its store may be read-only.
        """
        if self.row is not None:
            yield
            return
        with lease(self.folder / "lock"):
            if (self.folder / "row.json").is_dir():
                raise UserError(f"{self.folder / 'row.json'}: is a folder; remove it")
            if read_json(self.folder / "config.json") is None:
                replace(self.folder / "config.json", json.dumps(self.config, indent=1))
            yield

    def archive(self) -> None:
        """Archives the run under a timestamp, so that its state is ``new`` again."""
        if self.folder.exists():
            with lease(self.folder / "lock"):
                archived = self.folder.with_name(f"{self.id}.{time.strftime('%Y%m%d-%H%M%S')}")
                archived.mkdir()
                for file in self.folder.iterdir():
                    if not file.name.startswith("lock"):
                        file.rename(archived / file.name)

    def finish(self, row: dict[str, Any]) -> dict[str, Any]:
        """Writes the result, with the code's revision and the machine, and returns it."""
        row = {"id": self.id, **row, "revision": revision(), "machine": f"{platform.machine()} {os.cpu_count()} CPUs"}
        replace(self.folder / "row.json", json.dumps(row) + "\n")
        return row


@dataclass(frozen=True)
class TrainingRun(Run):
    """A training's folder: in this store, or written by `lf.convert` or ``save_pretrained``."""

    training: Training = field(compare=False)

    @property
    def id(self) -> str:
        return _identity(self.config)

    def check_data(self) -> None:
        """Raises `UserError` unless the data is what the network was trained on, as far as this is known."""
        trained_on, source = self.config.get("data_digest"), self.training
        try:
            found = data.digest(source.data, source.resolution)
        except UserError as error:
            raise UserError(f"run={self.id}: {error}; if the images were moved, give data=") from None
        if trained_on and found != trained_on:
            raise UserError(
                f"run={self.id}: data={source.data} is not what it was trained on (digest {found} instead of "
                f"{trained_on}): images were added, removed or replaced; give data= with those of the training"
            )


def training_run(config: Training) -> TrainingRun:
    """The run of the training ``config``, finished or not.

    Its identity: the config and the data's digest. Where the config names files, their contents count, not their paths:
    the same images and weights, found elsewhere, are the same run.
    """
    what = config.model_dump(mode="json", exclude={"runtime"})
    contents = {f"{at}.{key}": value for at, encoder in _encoders(config) for key, value in encoder.contents().items()}
    folder, what = _stored(Path(config.runtime.runs) / "training", what, config, contents)
    return TrainingRun(folder, what, config)


def _encoders(config: Training) -> Iterator[tuple[str, Encoder]]:
    """Every encoder, and its place in the config."""
    yield from ((f"latents.{number}", encoder) for number, encoder in enumerate(config.latents))
    if config.repa:
        yield "repa", config.repa


def _stored(store: Path, what: dict[str, Any], source: Source, contents: dict[str, str]) -> tuple[Path, dict[str, Any]]:
    """The folder of a run, and the config in it.

    Args:
        store: folder of the runs of this kind.
        what: the config.
        source: its data.
        contents: hash of the content of each file that ``what`` names, by dotted key.
    """
    what = what | {"data_digest": data.digest(source.data, source.resolution)}
    kind, colon, place = source.data.partition(":")
    if not colon and not contents:
        return store / identity(what), what
    if colon:  # the path stands in the config, so that the images are found from any working directory
        contents = {"data": kind, **contents}
    new = {**what, "contents": contents}
    folder = store / _identity(new)
    if not folder.exists():  # versions up to 0.2 named a run by its paths
        for name, stored in _named_by_paths(store, store.stat().st_mtime_ns if store.exists() else 0).items():
            if {**stored, "data": source.data} == what:
                return store / name, stored
    return folder, new | ({"data": f"{kind}:{Path(place).absolute()}"} if colon else {})


@cache
def _named_by_paths(store: Path, changed: int) -> dict[str, dict[str, Any]]:
    """The configs, by name, of the runs in ``store`` whose identity holds paths; read anew when it has ``changed``."""
    found = {}
    for file in sorted(store.glob("*/config.json")):
        with suppress(OSError, ValueError):
            config = json.loads(file.read_text())
            if "contents" not in config and identity(config) == file.parent.name:
                found[file.parent.name] = config
    return found


def _identity(config: Mapping[str, Any]) -> str:
    """The identity of a stored config: of what is named by its content, the path does not count."""
    return identity(_without(config, config.get("contents", {})))


def _without(tree: Any, keys: Iterable[str]) -> Any:
    """A copy of a nested config without the dotted ``keys``; numbers count the entries of a list."""
    tree = dict(enumerate(tree)) if isinstance(tree, list) else dict(tree)
    for key in keys:
        first, _, rest = key.partition(".")
        at: Any = int(first) if first.isdigit() else first
        if rest:
            tree[at] = _without(tree[at], [rest])
        else:
            del tree[at]
    return tree


def find_training(name: str, runtime: Runtime, images: str = "") -> TrainingRun:
    """A training run by id or folder; ``images``: where its data is now. Raises `UserError` if there is no such run."""
    store = Path(runtime.runs) / "training"
    folder = Path(name) if (Path(name) / "config.json").exists() else store / name
    if not name or not (folder / "config.json").exists():
        ids = [child.name for child in store.iterdir()] if store.is_dir() else []
        known = nearest(name, ids) if ids else f"{store} has none yet"
        raise UserError(f"run={name}: no such training run; {known}")
    training = training_of(folder, runtime=runtime.model_dump(), **({"data": images} if images else {}))
    return TrainingRun(folder, json.loads((folder / "config.json").read_text()), training)


@dataclass(frozen=True)
class EvaluationRun(Run):
    """An evaluation's folder. ``path`` holds the time vectors of sampling, ``(steps+1, streams)``."""

    path: Tensor = field(compare=False)


def evaluation_run(trained: TrainingRun, config: Evaluation) -> EvaluationRun:
    """The run of an evaluation, finished or not.

    Its identity: the training's identity, the path's time vectors, all other settings, and the references or the judge.
    """
    training = trained.training
    settings = config.model_dump(mode="json", include=set(Evaluation.model_fields) - {"path", "shift"})
    what = {"training": trained.id, **settings, **_judged_by(config)}
    if config.guidance.guide:  # the same run, given as an id or as a folder
        guide = find_training(config.guidance.guide, training.runtime)
        what["guidance"] = {**what["guidance"], "guide": guide.id}
    if "data_digest" not in trained.config and config.needs_data and _may_differ(training.data, trained.config["data"]):
        what["data_digest"] = data.digest(training.data, training.resolution)
    if config.given_data:
        what["given_data"] = data.digest(config.given_data, training.resolution)
    path = config.path_for(training)
    name = identity(what, path.tolist())
    schedule = (config.path or training.schedule).over(training.stream_names)
    folder = Path(training.runtime.runs) / "evaluation" / name
    return EvaluationRun(folder, what | {"path": schedule.model_dump(mode="json"), "shift": config.shift}, path)


def _may_differ(given: str, converted_with: str) -> bool:
    """Whether the data of a converted network may be other images than its name says: at a path, or given later."""
    return ":" in given or given != converted_with


def tokenizer_run(encoder: Encoder, patch: int, source: Source, judging: ScoringConfig) -> Run:
    """The run of a tokenizer's scores. Its identity: its recipe, the data's digest, the references or the judge."""
    what = {
        "tokenizer": encoder.model_dump(mode="json", exclude={"loss_weight"}),
        "patch": patch,
        "data": source.data,
        "resolution": source.resolution,
        "n": judging.n,
        "features": list(judging.features),
        **_judged_by(judging),
    }
    contents = {f"tokenizer.{key}": value for key, value in encoder.contents().items()}
    return Run(*_stored(Path(source.runtime.runs) / "tokenizer", what, source, contents))


def _judged_by(judging: ScoringConfig) -> dict[str, Any]:
    """Hashes of the references and, where the judge scores, the judge's recipe."""
    references = {name: _content(name, file) for name, file in judging.reference.items()}
    return {"reference": references} | ({"judge": RECIPE} if JUDGE in judging.features else {})


def _content(name: str, file: str) -> str:
    try:
        return sha256(Path(file))[:16]
    except OSError as error:
        raise UserError(f"reference.{name}={file}: {error.strerror}") from None


@cache
def revision() -> str:
    """The code's git revision, with ``+`` if there are uncommitted changes; outside a checkout, the version."""
    where = Path(__file__).parent
    if (where.parent / "REVISION").exists():  # a copy made for a sweep's jobs
        return (where.parent / "REVISION").read_text()
    if not (where.parent / ".git").exists():  # installed, perhaps within the checkout of another project
        return f"version {version('lf')}"
    try:
        git = ["git", "-C", str(where)]
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.strip() + ("+" if changed.strip() else "")
