"""The labelled images in WebDataset tar files: where they lie, and what their labels are.

A sample is the members that share a key: an image (``KEY.jpg``, or another suffix in `lf.data.image.SUFFIXES`, in any
case), and its label: ``KEY.cls``, a number or a name, or a field of ``KEY.json``. If no sample has a label, all are of
one class. Samples without an image, such as a README, are left out, unless they have a ``.cls``.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lf.core.errors import UserError, nearest
from lf.core.stages import stage
from lf.data import tars
from lf.data.image import SUFFIXES, read_anew
from lf.data.tars import Table

UNLABELLED = "all"  # name of the class of images without labels
LONGEST = 200  # characters of a label
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
                raise UserError(
                    f"{file}: {key}: which is its image, .{' or .'.join(images[:3])}? (a key ends at the first dot)"
                )
            if images:
                stem = images[0].rpartition(".")[0]  # of KEY.2.jpg, whose label is KEY.2.cls
                own = {name.removeprefix(f"{stem}."): at for name, at in member.items()} if stem else member
                yield Sample(key, member[images[0]], _label(f"{file}: {key}", own, content, label_key))
            elif "cls" in member:
                raise UserError(f"{file}: {key}: has a .cls, but no image; allowed: .{', .'.join(SUFFIXES)}")


def _label(where: str, member: Mapping[str, Any], content: Content, label_key: str) -> str | None:
    if "cls" in member and not label_key:
        return checked(f"{where}: its .cls", content(member["cls"]).decode(errors="replace"))
    if "json" not in member:
        if label_key:
            raise UserError(f"{where}: has no .json with '{label_key}'")
        return None
    try:
        fields = json.loads(content(member["json"]))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: its .json cannot be read: {str(error).splitlines()[0]}") from None
    fields = fields if isinstance(fields, dict) else {}
    name = next((name for name in ([label_key] if label_key else LABELS) if name in fields), None)
    if name is None and label_key:
        raise UserError(f"{where}: its .json has no '{label_key}'; {nearest(label_key, fields)}")
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():  # as some programs write numbers
        value = int(value)
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise UserError(f"{where}: '{name}' in its .json must be a whole number or a name, not {value!r:.60}")
    return checked(f"{where}: '{name}' in its .json", str(value))


def checked(what: str, text: str) -> str:
    """A label without space around it; ``what`` names it. Raises `UserError` if it can be no label."""
    text = text.strip()
    if not text.isprintable() or not 0 < len(text) <= LONGEST:
        raise UserError(f"{what} must be the number or the name of a class, of 1 to {LONGEST} printable characters")
    return text


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
    with stage("reads the headers of the tar files", len(files), "file") as bar:
        for shard, file in enumerate(files):
            with file.open("rb") as opened:
                for sample in samples(file, label_key):
                    found.append((shard, sample))
                    anew.append(read_anew(os.pread(opened.fileno(), sample.image[1], sample.image[0])))
            bar.update()
    labels = [sample.label for _, sample in found]
    if None in labels and any(text is not None for text in labels):
        shard, without = found[labels.index(None)]
        raise UserError(
            f"{files[shard]}: {without.key}: has no label (a .cls, or a label in a .json), but other images have one"
        )
    numbers, names = numbered(labels)
    return _positions(found) | {
        "label": torch.tensor(numbers, dtype=torch.int64),
        "names": texts(names),
        "anew": torch.tensor(anew, dtype=torch.bool),
    }


def numbered(labels: Sequence[str | None]) -> tuple[list[int], list[str]]:
    """Numbers of the classes of ``labels`` (all None: there are none), and the classes, sorted by number or name."""
    if None in labels:
        return [0] * len(labels), [UNLABELLED]
    numbers = all(re.fullmatch(r"-?\d+", text or "") for text in labels)
    keys = [int(text or 0) if numbers else text for text in labels]
    classes = sorted(set(keys))  # type: ignore[type-var]
    place = {value: label for label, value in enumerate(classes)}
    return [place[value] for value in keys], [str(value) for value in classes]


def _positions(found: Sequence[tuple[int, Sample]]) -> Table:
    places = torch.tensor([(shard, *sample.image) for shard, sample in found], dtype=torch.int64).reshape(len(found), 3)
    shard, offset, size = (column.contiguous() for column in places.T)
    return {"shard": shard, "offset": offset, "size": size, "key": texts([sample.key for _, sample in found])}


def texts(values: Sequence[str]) -> torch.Tensor:
    """Texts as uint8 ``(N, longest)``, filled up with zeros."""
    encoded = [text.encode(errors="surrogateescape") for text in values]  # names in tar files may be no UTF-8
    width = max([1, *map(len, encoded)])
    return torch.from_numpy(np.array(encoded, f"S{width}").view(np.uint8).reshape(len(encoded), width).copy())


def text_of(row: torch.Tensor) -> str:
    """The text of a row of uint8, filled up with zeros."""
    return bytes(row.tolist()).rstrip(b"\0").decode(errors="replace")


def renumbered(classes: Sequence[str]) -> bool:
    """Whether the names of classes are others than their numbers."""
    return list(classes) != [str(number) for number in range(len(classes))]


def dense(labels: torch.Tensor, classes: Sequence[str]) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Leaves out classes without images: labels in [0, number of classes that are left), and these classes."""
    held, labels = labels.unique(return_inverse=True)
    return labels, tuple(classes[label] for label in held.tolist())


def numbering(classes: Sequence[str]) -> str:
    """A sentence on how classes are numbered; empty if their names are their numbers."""
    if not renumbered(classes):
        return ""
    if len(classes) == 1:
        return "no image has a label, so all are one class" if classes[0] == UNLABELLED else ""
    some = ", ".join(classes[:4]) + (f", … {classes[-1]}" if len(classes) > 4 else "")
    return f"its classes {some} are numbered 0 to {len(classes) - 1}"
