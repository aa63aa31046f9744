"""Names of runs: the shown part of an identity, and what the sweeps of a store call them. Imports no torch."""

from collections import defaultdict
from pathlib import Path

from lf.storage.json_files import read_json

SHORT = 6  # characters of an identity that are shown, and the fewest that stand for it among other words


def cells(runs: Path) -> dict[str, list[str]]:
    """By identity: the names ``sweep: title`` that each training and evaluation has in the sweeps of this store."""
    found = defaultdict[str, dict[str, None]](dict)
    for file in sorted(runs.glob("sweeps/*/sweep.json")):
        manifest = read_json(file) or {}
        for unit in manifest.get("units", ()):
            if unit.get("kind") == "train":
                found[unit["training"]][f"{file.parent.name}: {unit['title']}"] = None
        for cell in manifest.get("cells", ()):
            found[cell["evaluation_id"]][f"{file.parent.name}: {cell['title']}"] = None
    return {name: list(titles) for name, titles in found.items()}
