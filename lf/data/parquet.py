"""Labelled images in parquet files, as the Hugging Face hub ships them.

A column holds image files, as bytes or as ``{bytes, path}``; another may hold the labels: numbers, whose names stand in
the schema (``ClassLabel``) or nowhere, or names. Without labels, all images are of one class.

The files are read once, from first to last, and a few images at a time: they cannot be read image by image.
"""

import glob
import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from lf.core.errors import UserError, few, nearest
from lf.core.stages import stage
from lf.data.image import Unreadable
from lf.data.members import LABELS, checked, numbered
from lf.storage.atomic import replace_tensors

SPLIT = re.compile(r"(\w+)-\d{5}-of-\d{5}.*")  # names of the hub: train-00000-of-00012
SPLITS = ("train", "test", "validation", "valid", "val", "dev")  # names of folders
READ = 16  # images that are read at a time


class Column(NamedTuple):
    """The column ``image`` of a file, its labels as text (None: no label), and the schema's names of these."""

    file: Path
    image: str
    labels: list[str | None]
    names: Sequence[str]


class Parquet(NamedTuple):
    """Images in parquet files.

    Attributes:
        columns: one per file.
        titles: per image its file, relative to their common folder, and its row: ``FILE:ROW``.
        labels: per image the number of its class.
        classes: the names of the classes.
    """

    columns: list[Column]
    titles: list[str]
    labels: list[int]
    classes: list[str]


def find(place: str, image_key: str = "", label_key: str = "") -> Parquet:
    """The images of a file, a folder or a shell pattern of parquet files.

    Args:
        place: the file, folder or pattern; ``~`` is expanded.
        image_key: column of the images; by default ``image``, or the only one that can be.
        label_key: column of the labels; by default one of `lf.data.members.LABELS`, or the only ``ClassLabel``.

    Raises:
        UserError: there is no such file, one cannot be read, columns are missing, or only some images have a label.
    """
    files = _files(place)
    columns = [_column(file, image_key, label_key) for file in files]
    above = Path(os.path.commonpath([file.parent for file in files]))
    titles = [f"{each.file.relative_to(above)}:{row}" for each in columns for row in range(len(each.labels))]
    if not titles:
        raise UserError(f"parquet:{place}: no images in {few([str(file) for file in files])}")
    texts = [label for each in columns for label in each.labels]
    if None in texts and any(text is not None for text in texts):
        raise UserError(f"parquet:{place}: {titles[texts.index(None)]} has no label, but other images have one")
    labels, classes = numbered(texts)
    named = {tuple(each.names) for each in columns}
    if len(named) > 1:
        raise UserError(f"parquet:{place}: its files have different names of classes; prepare them one by one")
    if names := named.pop():
        classes = [names[int(number)] for number in classes] if None not in texts else classes
    return Parquet(columns, titles, labels, classes)


def unpack(columns: Sequence[Column], place: Path) -> None:
    """Writes the image files in ``columns`` to ``place``, from where `read` takes them; what is there is not repeated.

    Raises:
        UserError: a file cannot be read.
    """
    with stage("unpacks the parquet files", sum(len(column.labels) for column in columns), "image") as bar:
        for number, column in enumerate(columns):
            out = _unpacked(place, number)
            if not _ends(out).exists():
                _unpack(column, out)
            bar.update(len(column.labels))


def _unpack(column: Column, out: Path) -> None:
    ends = [0]
    with out.open("wb") as stream:
        for value in _values(column.file, column.image):
            content = value.get("bytes") if isinstance(value, dict) else value
            ends.append(ends[-1] + stream.write(content or b""))
        stream.flush()
        os.fsync(stream.fileno())
    replace_tensors(_ends(out), {"ends": torch.tensor(ends)})


def read(place: Path, number: int, row: int) -> bytes:
    """The image file in a row of file ``number``, after `unpack`. Raises `Unreadable` if there is none."""
    out = _unpacked(place, number)
    begin, end = _ends_of(_ends(out))[row : row + 2].tolist()
    if begin == end:
        raise Unreadable("this row holds no bytes of an image")
    with out.open("rb") as stream:
        return os.pread(stream.fileno(), end - begin, begin)


def _unpacked(place: Path, number: int) -> Path:
    return place / f"unpacked-{number:05d}"


def _ends(out: Path) -> Path:
    return out.with_suffix(".safetensors")


@cache
def _ends_of(file: Path) -> torch.Tensor:
    return load_file(file)["ends"]


def _files(place: str) -> list[Path]:
    path = Path(os.path.expanduser(place))
    found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))] if not path.exists() else [path]
    if not found:
        raise UserError(f"parquet:{place}: no such file or folder")
    files = [file for some in found for file in (sorted(some.rglob("*.parquet")) if some.is_dir() else [some])]
    if not files:
        raise UserError(f"parquet:{place}: no file *.parquet in this folder")
    if path.is_dir() and len(splits := sorted({_split(file) for file in files})) > 1:
        some = next((name for name in splits if name == "train"), splits[0])
        raise UserError(
            f"parquet:{place}: holds several splits, {few(splits)}; give the files of one, such as "
            f"'parquet:{path}/**/*{some}*'"
        )
    return files


def _split(file: Path) -> str:
    """The split of a data set that a file belongs to, as its name or its folder says; or none."""
    if found := SPLIT.fullmatch(file.stem):
        return found[1]
    return next((name for name in SPLITS if name in (file.stem, file.parent.name)), "")


def _column(file: Path, image_key: str, label_key: str) -> Column:
    """What a file holds; the labels are read, the images are not."""
    opened = _open(file)
    schema, features = opened.schema_arrow, _features(opened.schema_arrow.metadata)
    held = dict(zip(schema.names, schema.types, strict=True))
    for key in filter(None, (image_key, label_key)):
        if key not in held:
            raise UserError(f"{file}: no column {key}; {nearest(key, held)}")
    pictures = [name for name, kind in held.items() if _holds_images(kind)]
    image = image_key or ("image" if "image" in pictures or len(pictures) != 1 else pictures[0])
    if image not in held:
        more = f"; image_key=NAME takes one of {', '.join(pictures)}" if pictures else ""
        raise UserError(f"{file}: no column image{more}; its columns: {', '.join(held)}")
    if image not in pictures:
        raise UserError(f"{file}: the column {image} is of type {held[image]}, not bytes or {{bytes, path}} of images")
    classed = [name for name in held if features.get(name, {}).get("_type") == "ClassLabel"]
    label = label_key or next((name for name in LABELS if name in held and name != image), "")
    if not label and len(classed) > 1:
        raise UserError(f"{file}: which is the label, {' or '.join(classed)}? give label_key=NAME")
    label = label or next(iter(classed), "")
    names = features.get(label, {}).get("names", ()) if label in classed else ()
    values = list(_values(file, label)) if label else [None] * opened.metadata.num_rows
    labels = [_label(f"{file}: column {label}", row, value, names) for row, value in enumerate(values)]
    return Column(file, image, labels, names)


def _label(where: str, row: int, value: Any, names: Sequence[str]) -> str | None:
    """A label as text; of a ``ClassLabel`` its number, of which -1 means that there is none."""
    if isinstance(value, float) and value.is_integer() or isinstance(value, bool):
        value = int(value)
    if value is None or names and value == -1:
        return None
    if not isinstance(value, int | str):
        raise UserError(f"{where}, row {row}: must be a whole number or a name, not {value!r:.60}")
    if names and not (isinstance(value, int) and 0 <= value < len(names)):
        raise UserError(f"{where}, row {row}: is {value!r:.60}, and there are names of {len(names)} classes")
    return checked(f"{where}, row {row}", str(value))


def _holds_images(kind: Any) -> bool:
    """Whether values of this type can be image files."""
    from pyarrow import types

    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _features(metadata: Any) -> dict[str, dict[str, Any]]:
    """What the hub's libraries say about the columns."""
    try:
        return dict(json.loads((metadata or {})[b"huggingface"])["info"]["features"])
    except (KeyError, ValueError, TypeError):
        return {}


def _open(file: Path) -> Any:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UserError("parquet: the package pyarrow is not installed; pip install pyarrow") from None
    try:
        # mapped: pages are read in place, whatever size a damaged file claims for them
        return ParquetFile(file, memory_map=True, pre_buffer=False)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(_fault(file, error)) from None


def _values(file: Path, column: str) -> Iterator[Any]:
    """The values of a column, a few at a time in memory."""
    import pyarrow

    try:
        for batch in _open(file).iter_batches(READ, columns=[column]):
            for value in batch.column(0):
                yield value.as_py()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(_fault(file, error)) from None


def _fault(file: Path, error: BaseException) -> str:
    return f"{file}: cannot be read as parquet: {str(error).splitlines()[0]}"
