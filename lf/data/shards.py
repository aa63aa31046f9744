"""Images in tar shards, read one at a time.

``shards:FOLDER`` is a folder written by ``python -m lf.data.prepare`` or another WebDataset writer; ``shards:PATTERN``
names tar files, such as ``/data/train-{000..127}.tar`` or ``/data/*.tar``; their members: see `lf.data.members`. A
prepared folder has an index: its files are not hashed again, and its images are already cropped. Of other tar files the
headers are read once and cached; their images are cropped at every read.
"""

import glob
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from lf.core.errors import UserError, few
from lf.core.seeds import generator
from lf.data import tars
from lf.data.base import Batch, Dataset
from lf.data.image import Unreadable, decode
from lf.data.members import dense, labelled, numbering, renumbered, text_of
from lf.data.tars import Table, Tars
from lf.storage.cache import cache_file, made_once

WINDOW = 16  # shards whose images are shuffled together


@dataclass(frozen=True, eq=False)
class Latents:
    """Cached latents of the images, in the same order, in separate tar files.

    Attributes:
        tars: the files.
        samples: ``shard``; ``offset`` and ``size`` ``(N, 2)``: of the image's latent, and of its mirror image's.
        shape: (C, h, w) of a latent.
    """

    tars: Tars
    samples: Table
    shape: tuple[int, ...]

    def read(self, row: int, mirrored: bool) -> Tensor:
        """``(C, h, w)`` float32. Raises `Unreadable`."""
        at = {name: column[row] for name, column in self.samples.items()}
        side = int(mirrored)
        content = self.tars.read(int(at["shard"]), int(at["offset"][side]), int(at["size"][side]))
        try:
            latent = torch.from_numpy(np.load(io.BytesIO(content))).float()
        except (ValueError, EOFError, OSError) as fault:
            raise Unreadable(f"its latent: {fault}") from None
        if latent.shape != self.shape:
            raise Unreadable(f"its latent has shape {tuple(latent.shape)}, expected {self.shape}")
        return latent


@dataclass(frozen=True, eq=False)
class Shards(Dataset):
    """Images in tar files, in the order of the files and of the members in them.

    Attributes:
        size: height and width in pixels.
        tars: the files.
        samples: ``shard``, ``offset``, ``size``, ``label``: int64 ``(N,)``; ``key``: uint8 ``(N, longest)``.
        latents: cached latents, one per encoder.
    """

    name: str
    digest: str
    classes: tuple[str, ...]
    size: int
    tars: Tars
    samples: Table = field(repr=False)
    latents: tuple[Latents, ...] = ()

    def __len__(self) -> int:
        return len(self.samples["label"])

    @property
    def resolution(self) -> int:
        return self.size

    def read(self, rows: Sequence[int] | Tensor, flip: Tensor | None = None) -> Batch:
        rows = torch.as_tensor(rows)
        flip = torch.zeros(len(rows), dtype=torch.bool) if flip is None else flip
        images = torch.zeros(len(rows), 3, self.size, self.size, dtype=torch.uint8)
        latents = tuple(torch.zeros(len(rows), *store.shape) for store in self.latents)
        valid = torch.ones(len(rows), dtype=torch.bool)
        damaged = []
        for at, (row, mirrored) in enumerate(zip(rows.tolist(), flip.tolist(), strict=True)):
            try:
                found = [store.read(row, mirrored) for store in self.latents]
                image = self._image(row)
                images[at] = image.flip(-1) if mirrored else image
            except Unreadable as fault:
                valid[at] = False
                damaged.append(f"{self.where(row)}: {fault}")
            else:
                for some, latent in zip(latents, found, strict=True):
                    some[at] = latent
        return Batch(images, self.samples["label"][rows], latents, valid, tuple(damaged))

    def _image(self, row: int) -> Tensor:
        shard, offset, size = (int(self.samples[name][row]) for name in ("shard", "offset", "size"))
        return decode(self.tars.read(shard, offset, size), self.size)

    def order(self, epoch: int, seed: int) -> Tensor:
        """The training order of an epoch: the shards are shuffled, then the images of each `WINDOW` consecutive shards.

        So only few shards are read at a time, which network file systems and page caches need. The price: images of
        one shard stay within one window of the epoch. With `WINDOW` shards or fewer it is a full shuffle. Each shard
        should hold a random sample of the images, as those of ``lf.data.prepare`` do.
        """
        draw = generator("epoch", seed, epoch)
        windows = torch.empty(len(self.tars.files), dtype=torch.int64)
        windows[torch.randperm(len(windows), generator=draw)] = torch.arange(len(windows)) // WINDOW
        rows = torch.randperm(len(self), generator=draw)
        return rows[windows[self.samples["shard"][rows]].argsort(stable=True)]

    def where(self, row: int) -> str:
        """The file and the key of an image, ``FILE:KEY``."""
        return f"{self.tars.files[int(self.samples['shard'][row])].name}:{key_of(self.samples, row)}"

    def rows(self) -> Iterator[Tensor]:
        """Rows of each shard."""
        yield from torch.arange(len(self)).split(
            self.samples["shard"].bincount(minlength=len(self.tars.files)).tolist()
        )

    def with_latents(self, folders: Sequence[Path]) -> "Shards":
        """A copy with the cached latents in ``folders``, one finished folder per encoder."""
        return replace(self, latents=tuple(map(_latents, folders)))


def key_of(samples: Table, row: int) -> str:
    """The key of an image."""
    return text_of(samples["key"][row])


def _latents(folder: Path) -> Latents:
    index = tars.index(folder)
    assert index is not None, folder
    files = Tars([folder / entry["name"] for entry in index["shards"]])
    return Latents(files, load_file(folder / tars.SAMPLES), tuple(index["shape"]))


def open_shards(place: str, resolution: int, digest: str, cache: Path) -> Shards:
    """Opens the shards in a folder, or of a pattern.

    Args:
        place: see the module's docstring.
        resolution: height and width in pixels.
        digest: identity of the data set.
        cache: folder in which the table of tar files without an index is cached.

    Raises:
        UserError: as in `find` and `contents`.
    """
    files, samples, classes = find(place, cache)
    return Shards(f"shards:{place}", digest, classes, resolution, Tars(files), samples)


def find(place: str, cache: Path | None = None, label_key: str = "") -> tuple[list[Path], Table, tuple[str, ...]]:
    """The tar files, the positions of the images in them (`Shards.samples`), and the names of the classes.

    Args:
        place: see the module's docstring.
        cache: folder in which the table of tar files without an index is cached.
        label_key: see `lf.data.members.samples`.

    Raises:
        UserError: files are missing, changed, of another format, or without images.
    """
    files = files_of(place)
    index = _index(place, files)
    if index:
        whole, counts = load_file(files[0].parent / tars.SAMPLES), [entry["samples"] for entry in index["shards"]]
        parts = dict(zip((entry["name"] for entry in index["shards"]), tars.split(whole, counts), strict=True))
        samples = tars.join([parts[file.name] for file in files])
        samples["label"], classes = dense(samples["label"], index["classes"])
        if cache and (empty := [name for name in index["classes"] if name not in classes]):
            made_once(cache_file(cache, "empty-classes", repr((place, empty))), lambda: _left_out(place, empty))
    else:
        stamps = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
        if cache:
            what = repr([(str(file.resolve()), *known) for file, *known in stamps])
            found = made_once(
                cache_file(cache, "labelled-tars", what), lambda: _said(place, _labelled(stamps, label_key))
            )
        else:
            found = _labelled(stamps, label_key)
        samples = {name: column for name, column in found.items() if name != "names"}
        classes = tuple(map(text_of, found["names"]))
    if not len(samples["label"]):
        raise UserError(f"data=shards:{place}: no images in these shards")
    return files, samples, classes


@lru_cache(maxsize=4)
def _labelled(stamps: tuple[tuple[Path, int, int], ...], label_key: str) -> Table:
    return labelled([file for file, *_ in stamps], label_key)


def _said(place: str, found: Table) -> Table:
    """Says how the classes are numbered, if not as they are called; returns ``found``."""
    if note := numbering(list(map(text_of, found["names"]))):
        print(f"data=shards:{place}: {note}", file=sys.stderr)
    return found


def _left_out(place: str, empty: Sequence[str]) -> Table:
    print(f"data=shards:{place}: {few(empty)}: no image in these shards, so no class", file=sys.stderr)
    return {"classes": torch.tensor(len(empty))}


def contents(place: str, resolution: int) -> list[str]:
    """What is hashed for the data's identity: SHA-256 of each tar file, from the index or computed.

    What version 0.2 read otherwise is added: images (`lf.data.image.read_anew`), and labels that are renumbered.

    Raises:
        UserError: as in `open_shards`.
    """
    files = files_of(place)
    index = _index(place, files)
    if index is None:
        found = [tars.sha256(file) for file in files]
        _, samples, classes = find(place)
        if samples["anew"].any():
            found.append(f"anew {samples['anew'].nonzero()[:, 0].tolist()}")
        return [*found, f"classes {classes}"] if renumbered(classes) else found
    if index["settings"]["resolution"] != resolution:
        raise UserError(f"data=shards:{place}: was prepared at resolution={index['settings']['resolution']}")
    known = {entry["name"]: entry["sha256"] for entry in index["shards"]}
    found, classes = [known[file.name] for file in files], find(place)[2]
    return found if len(classes) == len(index["classes"]) else [*found, f"classes {classes}"]


def files_of(place: str) -> list[Path]:
    """The tar files of a folder, or of a pattern with braces. Raises `UserError` if one is missing."""
    import braceexpand

    folder = Path(os.path.expanduser(place))
    if folder.is_dir():
        index = tars.index(folder)
        if index is None and (folder / tars.UNFINISHED).exists():
            raise UserError(f"data=shards:{place}: is not finished; rerun the command that writes it")
        held = sorted(child for child in folder.iterdir() if child.is_file())
        files = [file for file in held if file.suffix.lower() == ".tar"]
        if index is not None:
            files = [folder / entry["name"] for entry in index["shards"]]
        if packed := next((file for file in held if tars.compression(file)), None) if not files else None:
            files = [packed]  # so that its reader says what to do
    else:
        try:
            patterns = [os.path.expanduser(url) for url in braceexpand.braceexpand(place)]
        except ValueError as error:
            raise UserError(f"data=shards:{place}: {error}") from None
        files = [Path(name) for url in patterns for name in sorted(glob.glob(url)) or [url]]
    if not files:
        raise UserError(f"data=shards:{place}: no tar files in this folder")
    for file in files:
        if not file.is_file():
            raise UserError(f"data=shards:{place}: no such file: {file}")
    return files


def _index(place: str, files: Sequence[Path]) -> dict[str, Any] | None:
    """The index that lists ``files``, if there is one. Raises `UserError` if a file differs from its entry."""
    index = tars.index(files[0].parent)
    known = {entry["name"]: entry["bytes"] for entry in index["shards"]} if index else {}
    if any(file.parent != files[0].parent or file.name not in known for file in files):
        return None
    for file in files:
        if file.stat().st_size != known[file.name]:
            raise UserError(f"data=shards:{place}: {file}: differs from its entry in the index; prepare it again")
    return index
