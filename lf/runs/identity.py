"""How a run is named: by a hash of all that determines its result. Contents of files count, their paths do not."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from lf import data
from lf.config import ScoringConfig, Source, identity
from lf.core.errors import UserError
from lf.metrics import JUDGE, RECIPE
from lf.storage.atomic import sha256


def stored(store: Path, what: dict[str, Any], source: Source, contents: dict[str, str]) -> tuple[Path, dict[str, Any]]:
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
    folder = store / identity_of(new)
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


def identity_of(config: Mapping[str, Any]) -> str:
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


def judged_by(judging: ScoringConfig) -> dict[str, Any]:
    """Hashes of the references and, where the judge scores, the judge's recipe."""
    references = {name: _content(name, file) for name, file in judging.reference.items()}
    return {"reference": references} | ({"judge": RECIPE} if JUDGE in judging.features else {})


def _content(name: str, file: str) -> str:
    try:
        return sha256(Path(file))[:16]
    except OSError as error:
        raise UserError(f"reference.{name}={file}: {error.strerror}") from None
