"""Published weights: finding and downloading their files, hashing and reading them."""

import hashlib
import re
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, constants, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lf.core.errors import UserError
from lf.storage.atomic import sha256
from lf.storage.lease import lease
from lf.storage.pickles import NotReadable, unpickle

TIMEOUT = 10  # seconds until a server counts as unreachable; the retries of the clients take much longer


def find(key: str, where: str, published: str, files: Sequence[str] = ()) -> Path:
    """A file or folder of weights on this machine, downloaded into the usual cache if necessary.

    Args:
        key: its name in error messages, such as ``mocov3.weights``.
        where: a local file or folder; a URL; or, with ``files``, a repository of the Hugging Face hub.
        published: URL or hub id of the public weights, for error messages.
        files: the files needed from a hub repository.

    Raises:
        UserError: it is missing and cannot be downloaded; the message has the source and the place to put it.
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
        with lease(Path(f"{target}.lock")):
            if not target.exists():
                torch.hub.download_url_to_file(url, str(target))
    except OSError as error:
        raise UserError(f"{key}: no file {target}, and no download ({error}); get {url} and put it there") from None
    return target


def _from_hub(key: str, repository: str, file: str) -> Path:
    try:
        return Path(hf_hub_download(repository, file, local_files_only=True))
    except (OSError, ValueError):  # not in the cache, or not a valid repository name
        pass
    try:
        HfApi().model_info(repository, timeout=TIMEOUT)
        return Path(hf_hub_download(repository, file))
    except Exception as error:  # the types that the hub's client raises depend on its version
        reason = str(error).strip().splitlines()[0]
    raise UserError(
        f"{key}={repository}: no such folder, no {file} in {constants.HF_HUB_CACHE}, and no download ({reason}); "
        f"run 'hf download {repository}' with internet access, or give {key}=FOLDER with a copy of it"
    )


def digest(place: Path) -> str:
    """SHA-256 of a weight file; of a folder: of its only weight file, or of the digests of all its weight files."""
    files = (
        [place] if place.is_file() else [f for kind in ("safetensors", "bin") for f in sorted(place.glob(f"*.{kind}"))]
    )
    found = [sha256(file) for file in files]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def read(key: str, file: Path, part: str = "") -> dict[str, Any]:
    """Reads a ``.safetensors`` file or a torch pickle, the latter without running code.

    Args:
        key: its name in error messages, such as ``mocov3.weights``.
        file: the file.
        part: return only the dict under this name; empty if there is none.

    Raises:
        UserError: no such file, or it cannot be read.
    """
    found: Any
    try:
        found = load_file(file) if file.suffix == ".safetensors" else unpickle(file)
    except (OSError, SafetensorError, NotReadable) as error:
        raise UserError(f"{key}={file}: cannot be read: {str(error).splitlines()[0]}") from None
    if part and isinstance(found, dict):
        found = found[part] if isinstance(found.get(part), dict) else {}
    if not isinstance(found, dict):
        raise UserError(f"{key}={file}: holds a {type(found).__name__} instead of named tensors")
    return found


def fill(key: str, net: nn.Module, state: dict[str, Any], file: Path) -> None:
    """Loads all of ``state`` into ``net``. Raises `UserError` if it is of another network."""
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        fault = (str(error).splitlines()[1:] or [str(error)])[0].strip()
        raise UserError(f"{key}={file}: holds another network: {fault}") from None
