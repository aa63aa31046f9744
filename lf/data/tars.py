"""Tar files of samples, as WebDataset has them: found by a pass over the headers, read in pieces, written whole.

A folder of shards that is finished holds

- the tar files;
- ``index.json``: how they were made and, of every tar file, its name, number of samples, bytes, SHA-256 and what was
  left out of it as damaged;
- ``samples.safetensors``: where every sample lies, an array a column, so that millions are loaded at once.

Until then ``unfinished/`` holds the same of every shard that is done. A shard is written whole or not at all and its
bytes depend on its samples only, so a run that was killed goes on to the very same folder.
"""

import errno
import json
import os
import shutil
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from lf.data.picture import Unreadable
from lf.errors import UserError
from lf.files import replace, replace_tensors, sha256

INDEX, SAMPLES, UNFINISHED = "index.json", "samples.safetensors", "unfinished"
FORMAT = "lf.shards 1"
OPEN = 64  # tar files open at a time

Table = dict[str, Tensor]
"""Columns by name; a row a sample. Always there: ``offset`` and ``size`` of its members."""


def members(file: Path) -> Iterator[dict[str, Any]]:
    """The samples of a tar file: ``__key__``, and suffix → (offset, size) of its members. Reads headers only.

    Raises:
        UserError: no (uncompressed) tar file, cut short, or a member twice.
    """
    from webdataset.tariterators import group_by_keys

    def headers() -> Iterator[dict[str, Any]]:
        with tarfile.open(file, "r:") as opened:
            for header in opened:
                if header.isreg():
                    yield {"fname": header.name, "data": (header.offset_data, header.size), "__url__": str(file)}
                opened.members = []  # type: ignore[attr-defined] # or it keeps them all

    try:
        yield from group_by_keys(headers())
    except (tarfile.TarError, ValueError, OSError) as error:
        raise UserError(f"{file}: cannot be read as a tar file: {error.args[0]}") from None


def join(tables: Sequence[Table]) -> Table:
    """One table of many shards, the column ``shard`` numbered anew."""
    shard = torch.repeat_interleave(torch.arange(len(tables)), torch.tensor([len(t["offset"]) for t in tables]))
    some = [table for table in tables if len(table["offset"])] or tables[:1]
    return {name: torch.cat([table[name] for table in some]) for name in some[0]} | {"shard": shard}


def split(table: Table, counts: Sequence[int]) -> list[Table]:
    """The tables that `join` made one of, of ``counts`` samples."""
    parts = {name: column.split(list(counts)) for name, column in table.items()}
    return [{name: part[shard] for name, part in parts.items()} for shard in range(len(counts))]


class Tars:
    """Tar files read in pieces. Few are open at a time, in each process those that it reads itself."""

    def __init__(self, files: Sequence[Path]):
        self.files = tuple(files)
        self._open: OrderedDict[int, int] = OrderedDict()  # number → descriptor, the latest used last

    def read(self, number: int, offset: int, size: int) -> bytes:
        """``size`` bytes of file ``number``. Raises `Unreadable`."""
        try:
            if number not in self._open:
                self._open[number] = os.open(self.files[number], os.O_RDONLY | os.O_CLOEXEC)
                if len(self._open) > OPEN:
                    os.close(self._open.popitem(last=False)[1])
            self._open.move_to_end(number)
            return os.pread(self._open[number], size, offset)  # has no position, so a forked process may share it
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
    """A folder of shards in the making.

    Args:
        place: the folder.
        settings: what its content is a function of.

    Raises:
        UserError: ``place`` holds something else.
    """

    def __init__(self, place: Path, settings: dict[str, Any]):
        self.place, self.settings = place, json.loads(json.dumps(settings))
        found = index(place)
        if found is None and (place / UNFINISHED / INDEX).exists():
            found = json.loads((place / UNFINISHED / INDEX).read_text())
        if found is None and place.is_dir() and any(child.name != UNFINISHED for child in place.iterdir()):
            raise UserError(f"{place}: is not empty and holds no shards of ours; give another folder")
        for key, value in self.settings.items():
            if found is not None and found["settings"].get(key) != value:
                held = found["settings"].get(key)
                raise UserError(f"{place}: holds shards of {key}={held}, not {value}; remove it or give another folder")

    @property
    def finished(self) -> bool:
        return (self.place / INDEX).exists()

    def held(self) -> AbstractContextManager[Any]:
        """A lock on the folder. Raises `UserError` if another process has it or it cannot be written."""
        try:
            if not (self.place / UNFINISHED / INDEX).exists():
                replace(self.place / UNFINISHED / INDEX, json.dumps({"settings": self.settings}))
            return FileLock(self.place / UNFINISHED / "lock").acquire(timeout=0)
        except Timeout:
            raise UserError(f"{self.place}: another process is writing there") from None
        except OSError as error:
            raise UserError(f"{self.place}: cannot be written: {error.strerror}") from None

    def done(self, name: str) -> dict[str, Any] | None:
        """The index entry of a shard that is there already."""
        if not self._record(name).exists() or not (self.place / name).exists():
            return None
        with safe_open(self._record(name), "pt") as opened:
            return dict(json.loads(opened.metadata()["entry"]))

    def _record(self, name: str) -> Path:
        return self.place / UNFINISHED / f"{name}.safetensors"

    def write(
        self, name: str, samples: Iterable[dict[str, Any] | str], table: Callable[[Path], Table]
    ) -> dict[str, Any]:
        """Writes one shard; several processes may write different ones.

        Args:
            name: of the tar file.
            samples: as `webdataset.TarWriter` takes them; a string is one that is left out as damaged, and why.
            table: from the tar file to what `finish` joins: columns ``offset``, ``size``, …

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
            raise UserError(f"{self.place / name}: {error.strerror}; the same command goes on") from None
        return entry

    def finish(self, names: Sequence[str], facts: Callable[[Table], dict[str, Any]]) -> None:
        """Writes the index of the shards ``names``, with more ``facts`` in it, and tidies up."""
        joined = join([load_file(self._record(name)) for name in names])
        entries = [self.done(name) for name in names]
        made = {"format": FORMAT, "settings": self.settings, **facts(joined), "shards": entries}
        replace_tensors(self.place / SAMPLES, joined)
        replace(self.place / INDEX, json.dumps(made, indent=1))
        self.tidy()

    def tidy(self) -> None:
        """Removes what only an unfinished folder needs, and what processes that were killed left."""
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
