"""WebDataset tar files: index their samples, read single members, write them atomically.

A finished folder of shards holds

- the tar files;
- ``index.json``: the settings and, for each tar file, its name, number of samples, bytes, SHA-256 and the damaged
  samples that were left out;
- ``samples.safetensors``: the position of every sample, one array per column, so that millions load at once.

Until then, ``unfinished/`` holds the same for each finished shard. A shard is written atomically and its bytes depend
only on its samples, so an interrupted run resumes and ends with exactly the same folder.
"""

import errno
import json
import os
import re
import shutil
import sys
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from lf.core.errors import UserError
from lf.data.image import Unreadable
from lf.storage.atomic import replace, replace_tensors, sha256

INDEX, SAMPLES, UNFINISHED = "index.json", "samples.safetensors", "unfinished"
FORMAT = "lf.shards 1"
NAME = re.compile(r"((?:.*/)?[^.]+)\.([^/]*)", re.DOTALL)  # of a member: its key, a dot, and its suffix
DEBRIS = {"__MACOSX", ".ipynb_checkpoints"}  # folders in tar files that hold no samples
OPEN = 64  # tar files open at a time, per process

Table = dict[str, Tensor]
"""Columns by name, one row per sample; among them ``offset`` and ``size`` of its members, in bytes."""


def members(file: Path) -> list[dict[str, Any]]:
    """The samples of a tar file: ``__key__``, and suffix → (offset, size) of its members. It reads only headers.

    As in WebDataset, a name is cut at the first dot of its last part, and suffixes are in lower case. The members of a
    sample need not be neighbours; a key with a suffix that was there before begins another sample.

    Raises:
        UserError: the file is no (uncompressed) tar file, is truncated, or a sample has a member twice.
    """
    if packed := compression(file):
        raise UserError(f"{file}: is compressed; unpack it first: {packed} -d {file}")
    samples: list[dict[str, Any]] = []
    latest: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(file, "r:") as opened:
            for header in opened:
                opened.members = []  # type: ignore[attr-defined] # tarfile would keep all of them in memory
                if not 0 <= header.size <= file.stat().st_size - header.offset_data:
                    raise tarfile.ReadError(f"{header.name!r} has {header.size} bytes, more than the file")
                name = NAME.fullmatch(header.name)
                parts = header.name.split("/")
                debris = parts[-1].startswith("._") or DEBRIS & set(parts)
                if not header.isreg() or not name or debris:
                    continue
                key, suffix = name[1], name[2].lower()
                sample = latest.get(key)
                if sample is not None and suffix in sample and sample is samples[-1]:
                    raise UserError(f"{file}: {key}: has two members .{suffix}")
                if sample is None or suffix in sample:
                    sample = latest[key] = {"__key__": key}
                    samples.append(sample)
                sample[suffix] = (header.offset_data, header.size)
    except (tarfile.TarError, ValueError, OSError) as error:
        raise UserError(f"{file}: cannot be read as a tar file: {error}") from None
    return samples


def compression(file: Path) -> str:
    """The program that unpacks a compressed file; empty if it is not compressed."""
    with file.open("rb") as opened:
        start = opened.read(6)
    known = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
    return next((program for magic, program in known.items() if start.startswith(magic)), "")


def join(tables: Sequence[Table]) -> Table:
    """Concatenates the tables of shards; the column ``shard`` is their position in ``tables``."""
    shard = torch.repeat_interleave(torch.arange(len(tables)), torch.tensor([len(t["offset"]) for t in tables]))
    some = [table for table in tables if len(table["offset"])] or tables[:1]
    return {name: torch.cat([table[name] for table in some]) for name in some[0]} | {"shard": shard}


def split(table: Table, counts: Sequence[int]) -> list[Table]:
    """The inverse of `join`: tables of ``counts`` samples."""
    parts = {name: column.split(list(counts)) for name, column in table.items()}
    return [{name: part[shard] for name, part in parts.items()} for shard in range(len(counts))]


class Tars:
    """Tar files for random access. Each process keeps at most `OPEN` of them open, the most recently used."""

    def __init__(self, files: Sequence[Path]):
        self.files = tuple(files)
        self._open: OrderedDict[int, int] = OrderedDict()  # number → descriptor, the most recently used last

    def read(self, number: int, offset: int, size: int) -> bytes:
        """``size`` bytes of file ``number``. Raises `Unreadable`."""
        try:
            if number not in self._open:
                self._open[number] = os.open(self.files[number], os.O_RDONLY | os.O_CLOEXEC)
                if len(self._open) > OPEN:
                    os.close(self._open.popitem(last=False)[1])
            self._open.move_to_end(number)
            return os.pread(self._open[number], size, offset)  # uses no file position: safe after a fork
        except OSError as error:
            if number in self._open:  # a stale handle of a network file system: the next read opens the file anew
                os.close(self._open.pop(number))
            raise Unreadable(error.strerror or str(error)) from None

    def __reduce__(self) -> tuple[type["Tars"], tuple[Any, ...]]:
        return Tars, (self.files,)

    def __del__(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)


class Folder:
    """A folder of shards being written.

    Args:
        place: the folder.
        settings: everything that determines its content.
        stamp: changes when the source's files do: what was written of others is removed. Empty: unknown, as in folders
            that version 0.2 wrote.

    Raises:
        UserError: ``place`` holds something else.
    """

    def __init__(self, place: Path, settings: dict[str, Any], stamp: str = ""):
        self.place, self.settings = place, json.loads(json.dumps(settings))
        self.about = {"settings": self.settings} | ({"stamp": stamp} if stamp else {})
        found = index(place)
        if found is None and (place / UNFINISHED / INDEX).exists():
            found = json.loads((place / UNFINISHED / INDEX).read_text())
        if found is None and place.is_dir() and any(child.name != UNFINISHED for child in place.iterdir()):
            raise UserError(f"{place}: is not empty and holds no shards of this project; give another folder")
        held = found["settings"] if found else self.settings
        for key in [*self.settings, *(key for key in held if key not in self.settings)]:
            if held.get(key) != self.settings.get(key):
                had, given = (some.get(key, "its default") for some in (held, self.settings))
                raise UserError(f"{place}: holds shards of {key}={had}, not {given}; remove it or give another folder")
        self.outdated = bool(found and stamp and found.get("stamp", stamp) != stamp)

    @property
    def finished(self) -> bool:
        return (self.place / INDEX).exists() and not self.outdated

    def held(self) -> AbstractContextManager[Any]:
        """A lock on the folder. Raises `UserError` if another process holds it or the folder cannot be written."""
        try:
            if not (self.place / UNFINISHED / INDEX).exists():
                replace(self.place / UNFINISHED / INDEX, json.dumps(self.about))
            lock = FileLock(self.place / UNFINISHED / "lock").acquire(timeout=0)
            if self.outdated:
                self._remove()
            return lock
        except Timeout:
            raise UserError(f"{self.place}: another process is writing there") from None
        except OSError as error:
            raise UserError(f"{self.place}: cannot be written: {error.strerror}") from None

    def _remove(self) -> None:
        """Removes what was written of files that have changed since."""
        print(f"{self.place}: files of the source have changed; it is written anew", file=sys.stderr)
        written = (*self.place.glob("train-*.tar"), *(self.place / UNFINISHED).glob("*.safetensors"))
        for file in (self.place / INDEX, self.place / SAMPLES, *written):
            file.unlink(missing_ok=True)
        replace(self.place / UNFINISHED / INDEX, json.dumps(self.about))
        self.outdated = False

    def done(self, name: str) -> dict[str, Any] | None:
        """The index entry of a finished shard; None if it is not finished."""
        if not self._record(name).exists() or not (self.place / name).exists():
            return None
        with safe_open(self._record(name), "pt") as opened:
            return dict(json.loads(opened.metadata()["entry"]))

    def _record(self, name: str) -> Path:
        return self.place / UNFINISHED / f"{name}.safetensors"

    def write(
        self, name: str, samples: Iterable[dict[str, Any] | str], table: Callable[[Path], Table]
    ) -> dict[str, Any]:
        """Writes one shard. Several processes may write different shards at the same time.

        Args:
            name: name of the tar file.
            samples: in the form of `webdataset.TarWriter`; a string is the message of a damaged sample, which is left
                out.
            table: tar file → its table, with columns ``offset``, ``size``, …; `finish` joins these.

        Returns:
            The shard's entry in the index.

        Raises:
            UserError: no space is left.
        """
        from webdataset import TarWriter

        part = self.place / f"{name}.{os.getpid()}.part"
        damaged, count = [], 0
        try:
            with part.open("wb") as stream:
                with TarWriter(stream, user="lf", group="lf", mtime=0) as tar:
                    for sample in samples:
                        if isinstance(sample, str):
                            damaged.append(sample)
                        else:
                            tar.write(sample)
                            count += 1
                stream.flush()
                os.fsync(stream.fileno())
            entry = {
                "name": name,
                "samples": count,
                "bytes": part.stat().st_size,
                "sha256": sha256(part),
                "damaged": damaged,
            }
            columns = table(part)
            os.replace(part, self.place / name)
            replace_tensors(self._record(name), columns, {"entry": json.dumps(entry)})
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(f"{self.place / name}: {error.strerror}; rerun the same command to resume") from None
        return entry

    def finish(self, names: Sequence[str], facts: Callable[[Table], dict[str, Any]]) -> None:
        """Writes the index of the shards ``names``, with additional ``facts`` in it, and removes temporary files."""
        joined = join([load_file(self._record(name)) for name in names])
        entries = [self.done(name) for name in names]
        made = {"format": FORMAT, **self.about, **facts(joined), "shards": entries}
        replace_tensors(self.place / SAMPLES, joined)
        replace(self.place / INDEX, json.dumps(made, indent=1))
        self.tidy()

    def tidy(self) -> None:
        """Removes temporary files, also those of killed processes."""
        shutil.rmtree(self.place / UNFINISHED, ignore_errors=True)
        for part in self.place.glob("*.part"):
            part.unlink()


def index(place: Path) -> dict[str, Any] | None:
    """The index of a finished folder of shards; None for any other folder."""
    try:
        found = json.loads((place / INDEX).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None
