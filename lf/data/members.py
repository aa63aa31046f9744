"""The labelled images in WebDataset tar files: where they lie, and what their labels are.

A sample is the members that share a key: an image (``KEY.jpg``, or another suffix in `lf.data.image.SUFFIXES`, in any
case), and its label: ``KEY.cls``, a number or a name, or a field of ``KEY.json``. If no sample has a label, all are of
one class. Samples without an image, such as a README, are left out, unless they have a ``.cls``.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from lf.core.errors import UserError
from lf.data import tars
from lf.data.image import SUFFIXES, read_anew
from lf.data.tars import Table

Content = Callable[[tuple[int, int]], bytes]
"""(offset, size) of a member → its bytes."""
LABELS = ("label", "cls", "class_id", "class")  # fields of a .json that are taken for the label


class Sample(NamedTuple):
    """An image: its key, its offset and size in the tar file, and its label as text; None: it has none."""

    key: str
    image: tuple[int, int]
    label: str | None


def samples(file: Path, label_key: str = "") -> Iterator[Sample]:
    """The labelled images of a tar file.

    Args:
        file: the file.
        label_key: field of ``KEY.json`` that is the label; by default ``.cls``, or one of `LABELS`.

    Raises:
        UserError: the file is no tar file, or a sample has two images, no image for its label, or a bad label.
    """
    with file.open("rb") as opened:

        def content(at: tuple[int, int]) -> bytes:
            return os.pread(opened.fileno(), at[1], at[0])

        for member in tars.members(file):
            key = str(member["__key__"])
            plain = [name for name in SUFFIXES if name in member][:1]  # KEY.jpg rather than KEY.depth.png
            images = plain or [name for name in member if name.rpartition(".")[2] in SUFFIXES]
            if len(images) > 1:
                raise UserError(f"{file}: {key}: which is its image, .{' or .'.join(images[:3])}?")
            if images:
                stem = images[0].rpartition(".")[0]  # of KEY.2.jpg, whose label is KEY.2.cls
                own = {name.removeprefix(f"{stem}."): at for name, at in member.items()} if stem else member
                yield Sample(key, member[images[0]], _label(f"{file}: {key}", own, content, label_key))
            elif "cls" in member:
                raise UserError(f"{file}: {key}: has a .cls, but no image; allowed: .{', .'.join(SUFFIXES)}")


def _label(where: str, member: Mapping[str, Any], content: Content, label_key: str) -> str | None:
    if "cls" in member and not label_key:
        text = content(member["cls"]).decode(errors="replace").strip()
        if not text or "\n" in text:
            raise UserError(f"{where}: its .cls must hold the number or the name of a class")
        return text
    if "json" not in member:
        return None
    try:
        fields = json.loads(content(member["json"]))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: its .json cannot be read: {str(error).splitlines()[0]}") from None
    found = [fields[name] for name in ([label_key] if label_key else LABELS) if name in fields] if fields else []
    if not found and label_key:
        raise UserError(f"{where}: its .json has no '{label_key}'; it has {', '.join(map(str, fields)) or 'nothing'}")
    if not found or found[0] is None:
        return None
    if not isinstance(found[0], int | str) or isinstance(found[0], bool) or not str(found[0]).strip():
        raise UserError(f"{where}: the label in its .json must be a number or a name, not {found[0]!r}")
    return str(found[0]).strip()


def table(*files: Path) -> Table:
    """Positions of the images in prepared tar files, and their labels, which are numbers.

    Returns:
        ``shard``, ``offset``, ``size``, ``label``: int64 ``(N,)``; ``key``: uint8 ``(N, longest)``.
    """
    found = [(shard, sample) for shard, file in enumerate(files) for sample in samples(file)]
    columns = {"label": torch.tensor([int(sample.label or 0) for _, sample in found], dtype=torch.int64)}
    return _positions(found) | columns


def labelled(files: Sequence[Path], label_key: str = "") -> Table:
    """As `table`, of tar files by others.

    Returns:
        As `table`; ``names``: the names of the classes, uint8 ``(K, longest)``; ``anew`` ``(N,)``: see
        `lf.data.image.read_anew`. Labels count the classes, sorted by number or name.

    Raises:
        UserError: as in `samples`, or only some samples have a label.
    """
    found, anew = list[tuple[int, Sample]](), []
    bar = tqdm(files, desc="tar headers", unit="file", disable=None if len(files) > 1 else True)
    for shard, file in enumerate(bar):
        with file.open("rb") as opened:
            for sample in samples(file, label_key):
                found.append((shard, sample))
                anew.append(read_anew(os.pread(opened.fileno(), sample.image[1], sample.image[0])))
    texts = [sample.label for _, sample in found]
    if None in texts and any(text is not None for text in texts):
        shard, without = found[texts.index(None)]
        raise UserError(
            f"{files[shard]}: {without.key}: has no label (a .cls, or a label in a .json), but other images have one"
        )
    numbers = all(text is None or text.isdecimal() for text in texts)
    keys = [0 if text is None else int(text) if numbers else text for text in texts]
    classes = sorted(set(keys))  # type: ignore[type-var]
    place = {value: label for label, value in enumerate(classes)}
    names = ["all"] if None in texts else [str(value) for value in classes]
    return _positions(found) | {
        "label": torch.tensor([place[value] for value in keys], dtype=torch.int64),
        "names": _bytes(names),
        "anew": torch.tensor(anew, dtype=torch.bool),
    }


def _positions(found: Sequence[tuple[int, Sample]]) -> Table:
    places = torch.tensor([(shard, *sample.image) for shard, sample in found], dtype=torch.int64).reshape(len(found), 3)
    shard, offset, size = (column.contiguous() for column in places.T)
    return {"shard": shard, "offset": offset, "size": size, "key": _bytes([sample.key for _, sample in found])}


def _bytes(texts: Sequence[str]) -> torch.Tensor:
    """Texts as uint8 ``(N, longest)``, filled up with zeros."""
    encoded = [text.encode() for text in texts]
    width = max([1, *map(len, encoded)])
    return torch.from_numpy(np.array(encoded, f"S{width}").view(np.uint8).reshape(len(encoded), width).copy())


def text_of(row: torch.Tensor) -> str:
    """The text of a row of uint8, filled up with zeros."""
    return bytes(row.tolist()).rstrip(b"\0").decode(errors="replace")


def renumbered(classes: Sequence[str]) -> bool:
    """Whether the names of classes are others than their numbers."""
    return list(classes) != [str(number) for number in range(len(classes))]


def numbering(classes: Sequence[str]) -> str:
    """A sentence on how classes are numbered; empty if their names are their numbers, or there is one."""
    if len(classes) == 1 or not renumbered(classes):
        return ""
    some = ", ".join(classes[:4]) + (f", … {classes[-1]}" if len(classes) > 4 else "")
    return f"its classes {some} are numbered 0 to {len(classes) - 1}"
