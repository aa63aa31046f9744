"""Loading of untrusted pickles: only tensors, arrays and plain values, nothing that could run code."""

import argparse
import collections
import io
import pickle
import re
import typing
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import omegaconf
import torch


class NotReadable(Exception):
    """A file is no torch pickle, is damaged, or holds objects that could run code; the text says which."""


_NUMPY: list[Any] = [np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]]  # constructors of arrays and scalars
# Classes that fairseq and others pickle beside the weights; they only hold values.
HARMLESS: list[Any] = [
    argparse.Namespace,
    collections.defaultdict,
    dict,
    list,
    int,
    typing.Any,
    omegaconf.DictConfig,
    omegaconf.ListConfig,
    omegaconf.base.ContainerMetadata,
    omegaconf.base.Metadata,
    omegaconf.nodes.AnyNode,
    *((made, f"numpy.{core}.multiarray.{made.__name__}") for made in _NUMPY for core in ("core", "_core")),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float32", "float64", "int64")),
]


def unpickle(file: Path) -> Any:
    """Loads a torch pickle to the CPU with torch's safe loader (``weights_only``) and the classes in `HARMLESS`.

    Raises:
        NotReadable: the file cannot be read, or loading it would run code.
    """
    with suppress(OSError), file.open("rb") as opened:
        if opened.read(1) not in (b"P", b"\x80", b""):  # of a zip archive, of a pickle
            raise NotReadable("it is no torch checkpoint")
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # noqa: BLE001 (a damaged file may fail anywhere in the unpickler)
        code = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        plain = str(error).split("\n")[0] or type(error).__name__
        why = f"it holds {code[1]}, which is not loaded because it could run code" if code else plain
        raise NotReadable(why) from None


class _Filled(np.ndarray):
    """An array that takes only plain numbers: numpy crashes on a damaged state of other kinds."""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, _, content = state
        if not isinstance(kind, np.dtype) or kind.kind not in "fiu" or not isinstance(content, bytes | str):
            raise NotReadable("it holds an array of other things than numbers")
        super().__setstate__(state)


class _Arrays(pickle._Unpickler):  # type: ignore[name-defined]
    """Loads numpy arrays in plain containers; anything else that a pickle names is refused.

    It is the unpickler in Python: the one in C allocates whatever memory a damaged file asks for.
    """

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("numpy") and name == "_reconstruct":
            return lambda *_: np.zeros(0).view(_Filled)  # its content, with its size, follows
        if (module, name) in {("numpy", "dtype"), ("numpy", "ndarray")}:
            return getattr(np, name)
        if module.startswith("numpy") and name == "scalar":
            return _NUMPY[1]
        raise NotReadable(f"it holds {module}.{name}, which is not loaded because it could run code")


def unpickle_arrays(file: Path) -> Any:
    """Loads a plain pickle of numpy arrays, as some programs write statistics.

    Raises:
        NotReadable: the file cannot be read, or loading it would run code.
    """
    try:
        return _Arrays(io.BytesIO(file.read_bytes())).load()
    except NotReadable:
        raise
    except Exception as error:  # noqa: BLE001 (a damaged file may fail anywhere in the unpickler)
        raise NotReadable(str(error).split("\n")[0] or type(error).__name__) from None
