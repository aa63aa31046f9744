"""What makes a run a new one: the fields in which it differs from the most similar run of its store."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lf.core.errors import few
from lf.core.parsing import flat
from lf.runs.run import Run
from lf.storage.json_files import read_json


class Similar(NamedTuple):
    """Another run of the same store, and in what it differs: key → its value and the run's."""

    run: Run
    changes: dict[str, tuple[Any, Any]]

    @property
    def told(self) -> str:
        """The changes in words: ``schedule.alpha 1→4, seed 0→1``."""
        return few([f"{key} {theirs}→{mine}" for key, (theirs, mine) in self.changes.items()])


def most_similar(run: Run) -> Similar | None:
    """The run of the same store that differs in the fewest fields from ``run``; None if there is no other."""
    found: Similar | None = None
    for file in sorted(run.folder.parent.glob("*/config.json")):
        config = None if file.parent == run.folder else read_json(file)  # the run itself may be begun already
        if config is None:
            continue
        changes = _changes(config, run.config)
        if found is None or len(changes) < len(found.changes):
            found = Similar(Run(Path(file.parent), config), changes)
    return found


def why_new(run: Run) -> str:
    """The fields in which ``run`` differs from the most similar run in the store."""
    found = most_similar(run)
    return found.told if found else "first run in this store"


def _changes(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where two configs differ. Of what both name by its content, the content counts, else the name."""
    other, own = (
        {key: json.dumps(value) if isinstance(value, list) else value for key, value in flat(config).items()}
        for config in (theirs, mine)
    )
    contents = [{f"contents.{key}": key for key in config.get("contents", {})} for config in (theirs, mine)]
    left_out = {*(contents[0].keys() ^ contents[1]), *(contents[0][key] for key in contents[0].keys() & contents[1])}
    keys = sorted(key for key in own.keys() | other if other.get(key) != own.get(key) and key not in left_out)
    return {key: (other.get(key), own.get(key)) for key in keys}
