"""`python -m lf.data.prepare SOURCE OUT [key=value …]`: crops images and writes them as WebDataset shards.

    python -m lf.data.prepare /data/imagenet/train /data/in256
    python -m lf.data.prepare torchvision:CIFAR10 cifar resolution=32
    python -m lf.data.prepare 'parquet:/data/food/train-*.parquet' food

SOURCE is a folder of images with one sub-folder per class, tar shards (``/data/train-{000..127}.tar``), parquet files
as the Hugging Face hub ships them (``parquet:``, a file, a folder or a pattern; needs pyarrow, and while it runs as
much disk again as they take), or a data set of torchvision (``torchvision:CIFAR10``, downloaded if missing). A training
then takes ``data=shards:OUT``.

Each image is cropped as in ADM and written as ``KEY.png`` with its class's number as ``KEY.cls``; KEY is its number in
the sorted source. A fixed permutation shuffles the images over the shards. PNG is the default because it is lossless:
the network is trained on the same pixels as the reference statistics of this crop. ``format=jpg`` takes a third of the
space and decodes four times as fast, but the network also learns its compression errors.

The same command resumes an interrupted run. Equal images and settings give equal bytes (with the same Pillow).
"""

import hashlib
import inspect
import io
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image, ImageColor
from pydantic import BaseModel, ConfigDict, Field, field_validator

from lf.core.cli import config_from, run_command
from lf.core.errors import UserError, nearest
from lf.core.parsing import optional
from lf.core.seeds import generator
from lf.core.stages import stage
from lf.data import digest, members, named, parquet, shards, tars
from lf.data.folder import open_folder, read_image
from lf.data.image import CROP, USUAL, Decoding, Unreadable, crop, picture
from lf.data.loader import cores
from lf.data.tars import UNFINISHED, Folder, Tars


class Preparing(BaseModel):
    """The keys of the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    resolution: int = Field(256, ge=8, description="height and width of the images, in pixels")
    format: Literal["png", "jpg"] = Field("png", description="png (lossless) or jpg")
    quality: int = Field(95, ge=1, le=100, description="JPEG quality; colours are not subsampled")
    shard_size: int = Field(5000, ge=1, description="images of SOURCE per shard")
    workers: int = Field(cores(), ge=1, description="processes")
    limit_damaged: int = Field(10, ge=0, description="damaged images to leave out; it stops at more")
    label_key: str = Field("", description="the label: field of KEY.json in tar files, column of parquet files")
    image_key: str = Field("", description="of parquet files: column of the images; by default image, or the only one")
    background: str = optional(USUAL.background, description="colour under transparent pixels, as CSS names it")
    exif: bool = optional(USUAL.exif, description="turn images as their EXIF orientation says")
    max_pixels: int = Field(USUAL.max_pixels, ge=1, description="largest image, in pixels, that is decoded")
    root: str = Field("", description="folder of torchvision's data sets; by default in the cache of the run store")
    runs: str = Field("runs", description="folder of the run store")

    @field_validator("background")
    @classmethod
    def _colour(cls, value: str) -> str:
        ImageColor.getrgb(value)  # raises ValueError
        return value

    @property
    def decoding(self) -> Decoding:
        """How the images are decoded."""
        return Decoding(self.background, self.exif, self.max_pixels)

    def bytes_of(self, image: Image.Image) -> bytes:
        """An image, encoded in ``format``."""
        out = io.BytesIO()
        if self.format == "png":
            image.save(out, "PNG")
        else:
            image.save(out, "JPEG", quality=self.quality, subsampling=0)
        return out.getvalue()


class Source(NamedTuple):
    """Images to prepare.

    Attributes:
        items: per image its name, and the other arguments of ``read``.
        read: an item and how to decode it → the image as RGB, and its class; raises `Unreadable`.
        classes: names of the classes; None: their numbers are used.
        stamp: changes when the files do.
        notes: what to say about it, a sentence each.
        unpack: writes the images to a folder of temporary files, which ``read`` then takes before the item.
    """

    items: Sequence[tuple[Any, ...]]
    read: Callable[..., tuple[Image.Image, int]]
    classes: Sequence[str] | None
    stamp: str = ""
    notes: Sequence[str] = ()
    unpack: Callable[[Path], None] | None = None


def prepare(source: str, out: Path, config: Preparing) -> bool:
    """Writes the shards ``out``; False if they are finished already, and the source's files are as they were.

    Raises:
        UserError: no such source, ``out`` holds something else, or more than ``config.limit_damaged`` images are
            damaged. Finished shards are kept.
    """
    items, read, classes, stamp, notes, unpack = find(source, config)
    settings = {
        "images": hashlib.sha256(repr([item[0] for item in items]).encode()).hexdigest()[:16],
        "crop": CROP,
        "shard_size": config.shard_size,
        **config.model_dump(
            include={"resolution", "format", "background", "exif"} | ({"quality"} if config.format == "jpg" else set())
        ),
        **{key: value for key in ("label_key", "image_key") if (value := getattr(config, key))},
    }
    folder = Folder(out, settings, stamp and f"{stamp} {config.max_pixels}")
    if folder.finished:
        folder.tidy()
        return False
    mixed = torch.randperm(len(items), generator=generator("prepare")).split(config.shard_size)
    names = [f"train-{number:06d}.tar" for number in range(len(mixed))]
    with folder.held(), stage(f"prepares {out.name}", len(items), "image") as bar:
        entries = [folder.done(name) for name in names]
        damaged = [fault for entry in entries if entry for fault in entry["damaged"]]
        bar.update(sum(len(part) for part, entry in zip(mixed, entries, strict=True) if entry))
        _check_damaged(damaged, config.limit_damaged, out)
        if unpack and not all(entries):
            unpack(out / UNFINISHED)
            read = partial(read, out / UNFINISHED)
        pool = ProcessPoolExecutor(config.workers, initializer=_exit_with_parent)
        try:
            tasks = {
                pool.submit(_write, folder, name, read, {n: items[n] for n in part.tolist()}, config): len(part)
                for name, part, entry in zip(names, mixed, entries, strict=True)
                if not entry
            }
            for task in as_completed(tasks):
                damaged += task.result()["damaged"]
                bar.update(tasks[task])
                _check_damaged(damaged, config.limit_damaged, out)
        except BrokenProcessPool:
            raise UserError(f"{out}: a worker was killed (out of memory?); rerun the same command to resume") from None
        finally:
            pool.shutdown(cancel_futures=True)  # shards that are being written are still finished
        folder.finish(names, lambda made: {"source": source, "classes": list(classes or _numbered(made["label"]))})
    for note in notes:
        print(f"{source}: {note}", file=sys.stderr)
    return True


def _write(
    folder: Folder, name: str, read: Callable[..., tuple[Image.Image, int]], items: dict[int, Any], config: Preparing
) -> dict[str, Any]:
    """Writes one shard, in a worker process; ``items`` by number."""

    def samples() -> Iterator[dict[str, Any] | str]:
        for number, item in items.items():
            try:
                image, label = read(*item, config.decoding)
            except Unreadable as fault:
                yield f"{item[0]}: {fault}"
            else:
                image = crop(image, config.resolution)
                yield {"__key__": f"{number:08d}", config.format: config.bytes_of(image), "cls": str(label).encode()}

    return folder.write(name, samples(), members.table)


def _check_damaged(damaged: Sequence[str], limit: int, out: Path) -> None:
    if len(damaged) > limit:
        raise UserError(
            f"{out}: {len(damaged)} damaged images, more than limit_damaged={limit}; the last: {damaged[-1]}; "
            "finished shards are kept: rerun the same command with a higher limit to resume"
        )


def _numbered(labels: torch.Tensor) -> Iterator[str]:
    return map(str, range(int(labels.max()) + 1))


def _exit_with_parent() -> None:
    """Makes a worker exit if its parent is killed, and at Ctrl-C without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def find(source: str, config: Preparing) -> Source:
    """The images of SOURCE. Raises `UserError` if there are none."""
    root = config.root or str(Path(config.runs).expanduser() / "cache" / "torchvision")
    kind, _, place = named(source).partition(":")
    if kind == "folder":
        found = open_folder(place)
        files = [(str(file.relative_to(found.place)), str(found.place), label) for file, label in found.files]
        return Source(files, _from_folder, found.classes, _stamp([file for file, _ in found.files]), found.notes)
    if kind == "shards":
        tar_files, samples, classes = shards.find(place, label_key=config.label_key)
        columns = (samples[name].tolist() for name in ("shard", "offset", "size", "label"))
        images = [
            (f"{tar_files[shard].name}:{shards.key_of(samples, row)}", tar_files[shard], offset, size, label)
            for row, (shard, offset, size, label) in enumerate(zip(*columns, strict=True))
        ]
        note = members.numbering(classes)
        return Source(images, _from_shards, classes, _stamp(tar_files), [note] if note else [])
    if kind == "parquet":
        found_in = parquet.find(place, config.image_key, config.label_key)
        rows = ((number, row) for number, column in enumerate(found_in.columns) for row in range(len(column.labels)))
        in_files = [
            (title, *at, label) for title, at, label in zip(found_in.titles, rows, found_in.labels, strict=True)
        ]
        note, stamp = members.numbering(found_in.classes), _stamp([column.file for column in found_in.columns])
        unpack = partial(parquet.unpack, found_in.columns)
        return Source(in_files, _from_parquet, found_in.classes, stamp, [note] if note else [], unpack)
    if kind != "torchvision":
        raise UserError(
            f"{source}: no such folder or file; allowed: a folder, tar files, parquet:FILES or torchvision:NAME"
        )
    labelled = _torchvision(place, root)
    pictures = [(f"{place}:{number}", place, root, number) for number in range(len(labelled))]
    return Source(pictures, _from_torchvision, getattr(labelled, "classes", None))


def _stamp(files: Sequence[Path]) -> str:
    """Changes when a file is replaced: a hash of sizes and modification times."""
    known = [(stat.st_size, stat.st_mtime_ns) for file in files if file.exists() and (stat := file.stat())]
    return hashlib.sha256(repr(known).encode()).hexdigest()[:16]


def _from_folder(name: str, place: str, label: int, how: Decoding) -> tuple[Image.Image, int]:
    return picture(read_image(Path(place) / name), how), label


def _from_shards(_: str, file: Path, offset: int, size: int, label: int, how: Decoding) -> tuple[Image.Image, int]:
    return picture(Tars([file]).read(0, offset, size), how), label


def _from_parquet(unpacked: Path, _: str, file: int, row: int, label: int, how: Decoding) -> tuple[Image.Image, int]:
    return picture(parquet.read(unpacked, file, row), how), label


def _from_torchvision(_: str, place: str, root: str, number: int, how: Decoding) -> tuple[Image.Image, int]:
    try:
        image, label = _torchvision(place, root)[number]
    except OSError as fault:
        raise Unreadable(str(fault)) from None
    return image.convert("RGB"), int(label)


@cache
def _torchvision(name: str, root: str) -> Any:
    """The training images of a labelled data set of torchvision, downloaded if they are not under ``root``."""
    from torchvision import datasets

    if name not in datasets.__all__:
        raise UserError(f"torchvision:{name}: unknown; {nearest(name, datasets.__all__)}")
    kind = getattr(datasets, name)
    takes = inspect.signature(kind).parameters
    choice = {"train": True, "split": "train", "download": True}
    try:
        found = kind(root, **{key: value for key, value in choice.items() if key in takes})
        image, label = found[0]
        int(label)
    except (TypeError, ValueError) as error:
        raise UserError(f"torchvision:{name}: not a data set of images with one class each: {error}") from None
    except (OSError, RuntimeError) as error:
        raise UserError(f"torchvision:{name}: cannot be read or downloaded under root={root}: {error}") from None
    return found


def main(argv: list[str]) -> None:
    config = config_from(argv, Preparing, "prepare", __doc__, positional=2)
    source, out = argv[0], Path(argv[1])
    made = prepare(source, out, config)
    index = tars.index(out)
    assert index is not None
    count, damaged = (sum(x) for x in zip(*((e["samples"], len(e["damaged"])) for e in index["shards"]), strict=True))
    classes = len(shards.find(str(out))[2])
    print(
        f"{'done' if made else 'done already'}: data=shards:{out}  {count} images of {classes} classes, "
        f"{damaged} damaged left out  digest {digest(f'shards:{out}', config.resolution)}"
    )


if __name__ == "__main__":
    run_command(main)
