"""A folder of images: which files are images, and of which class.

The classes are the sub-folders with at least one image in or below them; linked folders count. A folder that has images
and no such sub-folder is one class. Hidden files and folders (``.ipynb_checkpoints``, ``._1.jpg``), ``__MACOSX``,
``lost+found`` and files of other kinds (``Thumbs.db``) are left out.
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lf.core.errors import UserError, few
from lf.data.image import SUFFIXES, Unreadable, read_anew
from lf.storage.atomic import sha256

OLD_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # of version 0.2


class Folder(NamedTuple):
    """The images of a folder.

    Attributes:
        place: the folder.
        classes: names of the classes, sorted.
        files: every image and the number of its class, in the order of classes and names.
        notes: what was left out or may not be meant, a sentence each.
    """

    place: Path
    classes: tuple[str, ...]
    files: list[tuple[Path, int]]
    notes: list[str]

    def digest(self) -> str:
        """What is hashed for the data's identity: names and contents, and what version 0.2 read otherwise.

        The folder may be anywhere. A name alone stands for a file that cannot be read.
        """
        entries = [(str(file.relative_to(self.place)), *_content(file)) for file, _ in self.files]
        renumbered = self.classes != tuple(sorted(c.name for c in self.place.iterdir() if c.is_dir()))
        return f"{entries}" + (f" classes {self.classes}" if renumbered else "")


def open_folder(place: str) -> Folder:
    """The images of the folder ``place``; ``~`` is expanded. Raises `UserError` if there is none."""
    folder = Path(os.path.expanduser(place))
    if not folder.is_dir():
        raise UserError(f"data=folder:{place}: no such folder; it must hold one sub-folder of images per class")
    children = [child for child in sorted(folder.iterdir()) if not _hidden(child.name)]
    below = {child.name: list(_images(child)) for child in children if child.is_dir()}
    classes = tuple(name for name, files in below.items() if files)
    loose = [child for child in children if _is_image(child)]
    notes = []
    if empty := [name for name, files in below.items() if not files]:
        notes.append(f"{few(empty)}: no image in it, so no class")
    if classes and loose:
        notes.append(f"{len(loose)} images beside the classes, such as {loose[0].name}, are left out")
    if deep := next((file for name in classes for file in below[name] if file.parent != folder / name), None):
        notes.append(
            f"the classes are its own sub-folders, {few(classes)}; folders below them, such as "
            f"{deep.parent.relative_to(folder)}, are no classes"
        )
    if not classes and loose:
        classes, below = ("all",), {"all": loose}
        notes.append(f"no sub-folder holds images, so its {len(loose)} images are one class")
    if not classes:
        kinds = sorted({file.suffix for file in folder.rglob("*") if file.is_file() and file.suffix})
        held = f" (only {', '.join(kinds[:3])})" if kinds else ""
        held += "; lf.data.prepare parquet:PATH OUT reads parquet files" if ".parquet" in kinds else ""
        raise UserError(
            f"data=folder:{place}: no images{held}; it must hold one sub-folder of images per class; suffixes of "
            f"images: {', '.join(SUFFIXES)}"
        )
    files = [(file, label) for label, name in enumerate(classes) for file in below[name]]
    return Folder(folder, classes, files, notes)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "lost+found")


def _is_image(file: Path) -> bool:
    """Whether a name is an image's; the file itself may be damaged, or a link to nothing."""
    return not _hidden(file.name) and file.suffix[1:].lower() in SUFFIXES and not file.is_dir()


def _refuse(error: OSError) -> None:
    raise error  # a folder that cannot be read would be left out without a word


def _images(folder: Path) -> Iterator[Path]:
    """The images in and below a folder, sorted."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [name for name in folders if not _hidden(name)]
        found += [] if real in seen else [Path(place) / name for name in names]
        seen.add(real)
    yield from sorted(file for file in found if _is_image(file))


def read_image(file: Path) -> bytes:
    """The bytes of a file. Raises `Unreadable`."""
    try:
        if not file.is_file():  # a pipe would be waited for
            raise Unreadable("is a link to nothing" if file.is_symlink() else "is no file")
        return file.read_bytes()
    except OSError as fault:
        raise Unreadable(fault.strerror or str(fault)) from None


def _content(file: Path) -> tuple[str, ...]:
    try:
        if not file.is_file():
            return ()
        found = sha256(file)
        known = file.stat()
    except OSError:
        return ()
    old = file.suffix.lower() in OLD_SUFFIXES and not _anew(file, known.st_size, known.st_mtime_ns)
    return (found,) if old else (found, "2")


@cache
def _anew(file: Path, size: int, mtime: int) -> bool:
    return read_anew(file.read_bytes())
