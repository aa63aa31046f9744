"""What a run store holds: one entry per run, read from its JSON files."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lf.config.schema import stream_names
from lf.runs.run import Run
from lf.runs.words import meant
from lf.storage import checkpoint
from lf.storage.json_files import read_json
from lf.storage.names import cells

KINDS = ("training", "evaluation", "tokenizer")
ARCHIVED = re.compile(r"\.\d{8}-\d{6}$")  # what `Run.archive` adds to a name


@dataclass(frozen=True)
class Entry:
    """One run of a store.

    Attributes:
        kind: ``training``, ``evaluation`` or ``tokenizer``.
        folder: its folder; the name is the identity.
        what: what it is, in words, such as ``cascaded tiny seed 0``.
        cells: its names in the sweeps that it belongs to, such as ``order_ablation: tiny cascaded seed 0``.
        data: its images, as in ``data=``.
        state: as `Run.state`, or ``archived``.
        step, steps: finished and planned training steps; of other runs 0.
        scores: its own, of a tokenizer or an evaluation; of a training the best of its evaluations, by name.
        bytes: size on disk.
        changed: time of the last change, in seconds since 1970.
        needs: identities of the trainings without which it could not be made; of a training that has no checkpoint
            yet, the one whose weights it begins with.
        evaluations: number of finished evaluations of a training.
    """

    kind: str
    folder: Path
    what: str
    cells: tuple[str, ...]
    data: str
    state: str
    step: int
    steps: int
    scores: dict[str, float]
    bytes: int
    changed: float
    needs: tuple[str, ...] = ()
    evaluations: int = 0

    @property
    def id(self) -> str:
        return self.folder.name

    def means(self, words: Sequence[str]) -> bool:
        """Whether it is meant by all ``words``: parts of what it is or of its cells, or the start of its identity."""
        texts = [f"{self.kind} {self.state} {self.what} {shortened(self.data)}", self.data, *self.cells]
        return all(self.id.startswith(word) or meant(word, texts) for word in words)


def entries(runs: Path, kinds: Sequence[str] = KINDS) -> list[Entry]:
    """Every run of ``kinds`` in the store ``runs``; each kind by the time of its last change."""
    named = cells(runs)
    evaluations = [_evaluation(folder, named) for folder in _folders(runs, "evaluation")]
    scored = defaultdict[str, list[Entry]](list)
    for entry in evaluations:
        if entry.needs and entry.state == "done":
            scored[entry.needs[0]].append(entry)
    trainings = [_training(folder, named, scored[folder.name]) for folder in _folders(runs, "training")]
    of = {entry.id: entry for entry in trainings}
    evaluations = [_told(entry, of) for entry in evaluations]
    found = [*trainings, *evaluations, *(_tokenizer(folder) for folder in _folders(runs, "tokenizer"))]
    return sorted((e for e in found if e.kind in kinds), key=lambda e: (KINDS.index(e.kind), e.changed))


def _told(entry: Entry, trainings: dict[str, Entry]) -> Entry:
    """An evaluation whose words and data say of which training it is."""
    of = trainings.get(entry.needs[0]) if entry.needs else None
    return replace(entry, what=f"{entry.what} of {of.what}", data=of.data) if of else entry


def shortened(name: str) -> str:
    """A data set's name; of a path the last part."""
    kind, colon, place = name.partition(":")
    return f"{kind}{colon}{Path(place).name}" if colon else name


def _folders(runs: Path, kind: str) -> list[Path]:
    store = runs / kind
    if not store.is_dir():
        return []
    return [child for child in store.iterdir() if child.is_dir() and not child.name.startswith(".")]


def size_of(folder: Path) -> int:
    """Size of a folder in bytes."""
    return _measured(folder)[0]


def _measured(folder: Path) -> tuple[int, float]:
    """Size and last change of a folder."""
    stats = [file.stat() for file in folder.rglob("*") if file.is_file()]
    return sum(s.st_size for s in stats), max((s.st_mtime for s in stats), default=folder.stat().st_mtime)


def _state(folder: Path, config: dict[str, Any]) -> str:
    return "archived" if ARCHIVED.search(folder.name) else Run(folder, config).state


def _training(folder: Path, named: dict[str, list[str]], scored: list[Entry]) -> Entry:
    config = read_json(folder / "config.json") or {}
    said = read_json(folder / "progress") or {}
    best: dict[str, float] = {}
    for entry in scored:
        best |= {name: min(value, best.get(name, value)) for name, value in entry.scores.items()}
    state, steps = _state(folder, config), int(config.get("steps", 0))
    trunk = (config.get("contents") or {}).get("init.name")  # its weights are read once, when the training begins
    needs = (trunk,) if trunk and state in ("new", "running") and not checkpoint.begun(folder) else ()
    return Entry(
        "training", folder, training_words(config), tuple(named.get(folder.name, ())), str(config.get("data", "")),
        state, steps if state == "done" else int(said.get("step", 0)), steps, best, *_measured(folder), needs,
        evaluations=len(scored),
    )  # fmt: skip


def training_words(config: dict[str, Any]) -> str:
    """What a training is: schedule, latents, REPA, seed, and whether it began with another's weights."""
    latents = [str(latent.get("name", "?")) for latent in config.get("latents", ())]
    words = [(config.get("schedule") or {}).get("name", "?"), *stream_names(latents)[1:]]
    repa = ["REPA"] if config.get("repa") else []
    warm = ["warm start"] if config.get("init") else []
    return " ".join([*words, *repa, f"seed {config.get('seed', 0)}", *warm])


def _evaluation(folder: Path, named: dict[str, list[str]]) -> Entry:
    config, row = read_json(folder / "config.json") or {}, read_json(folder / "row.json", "id") or {}
    guidance = config.get("guidance") or {}
    needs = [name for name in (config.get("training"), guidance.get("guide")) if name]
    kind = "" if guidance.get("kind", "none") == "none" else f" {guidance['kind']}"
    path = config.get("path") or {}
    size = "".join(f" {key} {path[key]:g}" for key in ("alpha", "offset") if isinstance(path.get(key), float | int))
    name = str(row.get("score", ""))  # FD-shapes, in the column fd; or a column
    value = row.get("fd") if name.startswith("FD-") else row.get(name)
    scores = {name: value} if isinstance(value, float) else {}
    return Entry(
        "evaluation", folder, f"{path.get('name', '?')}{size}{kind}", tuple(named.get(folder.name, ())),
        str(row.get("data", "")), _state(folder, config), 0, 0, scores, *_measured(folder), tuple(needs),
    )  # fmt: skip


def _tokenizer(folder: Path) -> Entry:
    config, row = read_json(folder / "config.json") or {}, read_json(folder / "row.json", "id") or {}
    what = (config.get("tokenizer") or {}).get("name", "?")
    scores = {name: row[name] for name in ("rfd", "rfid", "psnr") if isinstance(row.get(name), float)}
    return Entry(
        "tokenizer", folder, str(what), (), str(config.get("data", "")), _state(folder, config), 0, 0, scores,
        *_measured(folder),
    )  # fmt: skip


def as_json(found: Iterable[Entry]) -> str:
    """The entries as a JSON list: every field, with ``id`` and paths as text."""
    return json.dumps([{"id": entry.id, **entry.__dict__, "folder": str(entry.folder)} for entry in found], indent=1)
