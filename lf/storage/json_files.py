"""JSON files that a crash may have torn: such a file costs what it described, and nothing else."""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any


def read_json(file: Path, *needed: str) -> dict[str, Any] | None:
    """The object in a JSON file, which has at least the keys ``needed``.

    Returns:
        None if there is no such file, or, with a warning, if it is torn, unreadable or something else.

    Raises:
        OSError: the file system does not answer.
    """
    try:
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (IsADirectoryError, PermissionError) as error:
        return _warned(file, f"{error.strerror}".lower())
    except (ValueError, RecursionError):
        return _warned(file, "is damaged" if file.stat().st_size else "is empty")
    if not isinstance(found, dict):
        return _warned(file, "is damaged: no JSON object")
    missing = [key for key in needed if key not in found]
    return _warned(file, f"is damaged: no '{missing[0]}'") if missing else found


@cache
def _warned(file: Path, fault: str) -> None:
    """Warns once per process."""
    sys.stderr.write(f"warning: {file}: {fault}; it counts as missing\n")  # one write: other processes also write
