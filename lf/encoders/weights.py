"""Published weights: where they are on this machine, whether they are the right ones, and what is in them."""

import argparse
import collections
import hashlib
import pickle
import re
import typing
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import omegaconf
import torch
from huggingface_hub import HfApi, constants, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lf.claims import claim
from lf.errors import UserError
from lf.files import sha256

TIMEOUT = 10  # seconds until a server counts as out of reach; the clients' own retries take far longer


def find(key: str, where: str, published: str, files: Sequence[str] = ()) -> Path:
    """A file or folder of weights on this machine, downloaded into its usual cache if need be.

    Args:
        key: what an error calls it, such as ``mocov3.weights``.
        where: a local file or folder; a URL; or, where ``files`` are named, a repository of the Hugging Face hub.
        published: where the public weights are, for an error.
        files: what is needed of a hub repository.

    Raises:
        UserError: it is not here and cannot be got; the line says what, from where, and where to put it.
    """
    if where.startswith(("https://", "http://")):
        return _from_url(key, where)
    if Path(where).exists():
        return Path(where)
    if files and re.fullmatch(r"[\w.-]+/[\w.-]+", where):
        return [_from_hub(key, where, file) for file in files][0].parent
    raise UserError(f"{key}={where}: no such file or folder; get {published} and put it there")


def _from_url(key: str, url: str) -> Path:
    target = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if target.exists():
        return target
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT).close()
        target.parent.mkdir(parents=True, exist_ok=True)
        with claim(Path(f"{target}.lock")):
            if not target.exists():
                torch.hub.download_url_to_file(url, str(target))
    except OSError as error:
        raise UserError(f"{key}: no file {target}, and no download ({error}); get {url} and put it there") from None
    return target


def _from_hub(key: str, repository: str, file: str) -> Path:
    try:
        return Path(hf_hub_download(repository, file, local_files_only=True))
    except (OSError, ValueError):  # not there, or no name that the hub could know
        pass
    try:
        HfApi().model_info(repository, timeout=TIMEOUT)
        return Path(hf_hub_download(repository, file))
    except Exception as error:  # the hub's client raises types that differ from version to version
        reason = str(error).strip().splitlines()[0]
    raise UserError(
        f"{key}={repository}: no such folder, no {file} in {constants.HF_HUB_CACHE}, and no download ({reason}); "
        f"where there is a network 'hf download {repository}' puts it there; or give {key}=FOLDER with a copy of it"
    )


def digest(place: Path) -> str:
    """SHA-256 of a weight file; of a folder, of its only weight file, or of the digests of them all."""
    files = (
        [place] if place.is_file() else [f for kind in ("safetensors", "bin") for f in sorted(place.glob(f"*.{kind}"))]
    )
    found = [sha256(file) for file in files]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def read(key: str, file: Path, part: str = "") -> dict[str, Any]:
    """What is in a ``.safetensors`` file or a torch pickle; of the latter nothing that could run code is made.

    Args:
        key: what an error calls it, such as ``mocov3.weights``.
        file: what to read.
        part: only what is under this name; nothing if there is no such dict.

    Raises:
        UserError: no such file, or it cannot be read.
    """
    found: Any
    try:
        if file.suffix == ".safetensors":
            found = load_file(file)
        else:
            with torch.serialization.safe_globals(_HARMLESS):
                found = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        cause = f"it holds {refused[1]}, which is not known to be harmless" if refused else str(error).splitlines()[0]
        raise UserError(f"{key}={file}: cannot be read: {cause}") from None
    if part and isinstance(found, dict):
        found = found[part] if isinstance(found.get(part), dict) else {}
    if not isinstance(found, dict):
        raise UserError(f"{key}={file}: holds a {type(found).__name__} instead of named tensors")
    return found


_NUMPY: list[Any] = [np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]]  # how it makes arrays and scalars
# What fairseq and others pickle beside the weights; these classes only hold values.
_HARMLESS: list[Any] = [
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


def fill(key: str, net: nn.Module, state: dict[str, Any], file: Path) -> None:
    """Loads ``state`` into ``net``, all of it. Raises `UserError` if it is another network's."""
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        fault = (str(error).splitlines()[1:] or [str(error)])[0].strip()
        raise UserError(f"{key}={file}: holds another network: {fault}") from None
