"""`python -m lf.data.prepare SOURCE OUT [key=value …]`: cuts images to size, into WebDataset shards.

SOURCE is a folder of images with one sub-folder a class, tar shards (``/data/train-{000..127}.tar``), or a data set of
torchvision (``torchvision:CIFAR10``, downloaded if it is not there). OUT is then asked for as ``data=shards:OUT``.

Each image is cropped as in ADM and written as ``KEY.png`` with its class's number as ``KEY.cls``; KEY is its number in
the sorted source, and the shards are mixed by a fixed permutation. PNG is the default because it loses nothing: the
network is trained on the very pixels that reference statistics of this crop are made of. ``format=jpg`` is a third of
the bytes and decodes four times as fast, but its errors are part of what is then learned.

The same command goes on after it was killed. Equal images and settings make equal bytes (with the same Pillow).
"""

import hashlib
import inspect
import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from lf.data import digest, folder_classes, folder_files, shards, tars
from lf.data.loader import cores
from lf.data.picture import CROP, Unreadable, crop, picture
from lf.data.tars import Folder, Tars
from lf.errors import UserError, nearest
from lf.seeds import generator


class Preparing(BaseModel):
    """What the command line takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    resolution: int = Field(256, ge=8, description="height and width of the images, in pixels")
    format: Literal["png", "jpg"] = Field("png", description="png (nothing is lost) or jpg")
    quality: int = Field(95, ge=1, le=100, description="of jpg; colours are not subsampled")
    shard_size: int = Field(5000, ge=1, description="images of SOURCE in a shard")
    workers: int = Field(cores(), ge=1, description="processes")
    limit_damaged: int = Field(10, ge=0, description="images that cannot be read and are left out; more stop it")
    root: str = Field("runs/cache/torchvision", description="folder of torchvision's data sets")

    def bytes_of(self, image: Image.Image) -> bytes:
        """An image as a file."""
        out = io.BytesIO()
        if self.format == "png":
            image.save(out, "PNG")
        else:
            image.save(out, "JPEG", quality=self.quality, subsampling=0)
        return out.getvalue()


class Source(NamedTuple):
    """Images to prepare.

    Attributes:
        items: of each image its name, and what else ``read`` needs.
        read: from an item to the image as RGB and its class; raises `Unreadable`.
        classes: names of the classes; None leaves them to be numbered.
    """

    items: Sequence[tuple[Any, ...]]
    read: Callable[..., tuple[Image.Image, int]]
    classes: Sequence[str] | None


def prepare(source: str, out: Path, config: Preparing) -> bool:
    """Makes the shards ``out``; False if they are there already.

    Raises:
        UserError: no such source, ``out`` holds something else, or more than ``config.limit_damaged`` images are
            damaged; what is done stays.
    """
    items, read, classes = find(source, config.root)
    settings = {
        "images": hashlib.sha256(repr([item[0] for item in items]).encode()).hexdigest()[:16],
        "crop": CROP,
        "shard_size": config.shard_size,
        **config.model_dump(include={"resolution", "format"} | ({"quality"} if config.format == "jpg" else set())),
    }
    folder = Folder(out, settings)
    if folder.finished:
        folder.tidy()
        return False
    mixed = torch.randperm(len(items), generator=generator("prepare")).split(config.shard_size)
    names = [f"train-{number:06d}.tar" for number in range(len(mixed))]
    with folder.held(), tqdm(total=len(items), desc=f"prepare {out.name}", unit="image", disable=None) as bar:
        entries = [folder.done(name) for name in names]
        damaged = [fault for entry in entries if entry for fault in entry["damaged"]]
        bar.update(sum(len(part) for part, entry in zip(mixed, entries, strict=True) if entry))
        _put_up_with(damaged, config.limit_damaged, out)
        pool = ProcessPoolExecutor(config.workers, initializer=_live_no_longer_than_the_parent)
        try:
            tasks = {
                pool.submit(_write, folder, name, read, {n: items[n] for n in part.tolist()}, config): len(part)
                for name, part, entry in zip(names, mixed, entries, strict=True)
                if not entry
            }
            for task in as_completed(tasks):
                damaged += task.result()["damaged"]
                bar.update(tasks[task])
                _put_up_with(damaged, config.limit_damaged, out)
        except BrokenProcessPool:
            raise UserError(f"{out}: a worker was killed (is memory short?); the same command goes on") from None
        finally:
            pool.shutdown(cancel_futures=True)  # shards that are being written are finished
        folder.finish(names, lambda made: {"source": source, "classes": list(classes or _numbered(made["label"]))})
    return True


def _write(
    folder: Folder, name: str, read: Callable[..., tuple[Image.Image, int]], items: dict[int, Any], config: Preparing
) -> dict[str, Any]:
    """One shard, in a worker. ``items`` by number."""

    def samples() -> Iterator[dict[str, Any] | str]:
        for number, item in items.items():
            try:
                image, label = read(*item)
            except Unreadable as fault:
                yield f"{item[0]}: {fault}"
            else:
                image = crop(image, config.resolution)
                yield {"__key__": f"{number:08d}", config.format: config.bytes_of(image), "cls": str(label).encode()}

    return folder.write(name, samples(), shards.table)


def _put_up_with(damaged: Sequence[str], limit: int, out: Path) -> None:
    if len(damaged) > limit:
        raise UserError(
            f"{out}: {len(damaged)} damaged images and limit_damaged={limit}; the last: {damaged[-1]}; "
            "what is done stays, the same command with a higher limit goes on"
        )


def _numbered(labels: torch.Tensor) -> Iterator[str]:
    return map(str, range(int(labels.max()) + 1))


def _live_no_longer_than_the_parent() -> None:
    """A worker must not wait for ever for a parent that was killed, nor print a traceback at Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def find(source: str, root: str) -> Source:
    """The images of SOURCE. Raises `UserError` if there are none."""
    kind, colon, place = source.partition(":")
    if not colon or kind not in ("folder", "shards", "torchvision"):
        of_images = Path(source).is_dir() and not any(Path(source).glob("*.tar"))
        kind, place = "folder" if of_images else "shards", source
    if kind == "folder":
        files = [(str(file.relative_to(place)), place, label) for file, label in folder_files(place)]
        return Source(files, _from_folder, folder_classes(place))
    if kind == "shards":
        tar_files, samples, classes = shards.find(place)
        columns = (samples[name].tolist() for name in ("shard", "offset", "size", "label"))
        members = [
            (f"{tar_files[shard].name}:{shards.key_of(samples, row)}", tar_files[shard], offset, size, label)
            for row, (shard, offset, size, label) in enumerate(zip(*columns, strict=True))
        ]
        return Source(members, _from_shards, classes)
    found = _torchvision(place, root)
    pictures = [(f"{place}:{number}", place, root, number) for number in range(len(found))]
    return Source(pictures, _from_torchvision, getattr(found, "classes", None))


def _from_folder(name: str, place: str, label: int) -> tuple[Image.Image, int]:
    try:
        return picture((Path(place) / name).read_bytes()), label
    except OSError as fault:
        raise Unreadable(fault.strerror or str(fault)) from None


def _from_shards(_: str, file: Path, offset: int, size: int, label: int) -> tuple[Image.Image, int]:
    return picture(Tars([file]).read(0, offset, size)), label


def _from_torchvision(_: str, place: str, root: str, number: int) -> tuple[Image.Image, int]:
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
        raise UserError(f"torchvision:{name}: is no data set of images with one class each: {error}") from None
    except (OSError, RuntimeError) as error:
        raise UserError(f"torchvision:{name}: cannot be had under root={root}: {error}") from None
    return found


def main(argv: list[str]) -> None:
    from lf.command import config_from  # commands lie above this room
    from lf.config import overrides, parse

    if {"-h", "--help"} & set(argv):
        config_from(argv, Preparing, "prepare", __doc__)
    if len(argv) < 2:
        raise UserError("usage: python -m lf.data.prepare SOURCE OUT [key=value …]; --help lists the keys")
    config = parse(Preparing, overrides(argv[2:]), where="prepare")
    source, out = argv[0], Path(argv[1])
    made = prepare(source, out, config)
    index = tars.index(out)
    assert index is not None
    count, damaged = (sum(x) for x in zip(*((e["samples"], len(e["damaged"])) for e in index["shards"]), strict=True))
    print(
        f"{'done' if made else 'done already'}: data=shards:{out}  {count} images of {len(index['classes'])} classes, "
        f"{damaged} damaged left out  digest {digest(f'shards:{out}', config.resolution)}"
    )


if __name__ == "__main__":
    from lf.door import door

    door(main)
