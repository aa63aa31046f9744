"""JSON files that a crash may have torn: such a file costs what it described, and nothing else."""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from lf.core.errors import UserError


def load_json(file: Path, *needed: str) -> dict[str, Any]:
    """The object in a JSON file, which has at least the keys ``needed``.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such file.
        UserError: it is torn, unreadable or something else.
        OSError: the file system does not answer.
    """
    try:
        found = json.loads(file.read_bytes())
    except (IsADirectoryError, PermissionError) as error:
        raise UserError(f"{file}: {(error.strerror or '').lower()}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{file}: is {'damaged' if file.stat().st_size else 'empty'}") from None
    if not isinstance(found, dict):
        raise UserError(f"{file}: is damaged, no JSON object")
    if missing := [key for key in needed if key not in found]:
        raise UserError(f"{file}: is damaged, it has no '{missing[0]}'")
    return found


def read_json(file: Path, *needed: str) -> dict[str, Any] | None:
    """As `load_json`; but None if there is no such file, or, with a warning, if it is damaged."""
    try:
        return load_json(file, *needed)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UserError as error:
        _warn(str(error))
        return None


@cache
def _warn(fault: str) -> None:
    """Warns once per process."""
    sys.stderr.write(f"warning: {fault}; it counts as missing\n")  # one write: other processes also write
