"""A run: a folder of the run store, with its config, its lease and its result."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lf.core.errors import UserError
from lf.storage import checkpoint
from lf.storage.atomic import replace
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


@cache
def revision() -> str:
    """The code's git revision, with ``+`` if there are uncommitted changes; outside a checkout, the version."""
    where = Path(__file__).parents[1]
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
