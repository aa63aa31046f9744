"""Checkpoints: one safetensors file, written atomically, and the previous one beside it.

Tensors: ``raw.*`` the network, ``ema.*``, ``ema2.*``, … its averages, ``optimizer.N.*``, ``losses``; metadata: step,
seconds of training so far, digests (`lf.storage.verified`). A run resumes from it bit by bit: the position in the data
and every random draw are functions of seed and step.
"""

import hashlib
import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from lf.core.errors import UserError
from lf.storage import verified

NAME, PREVIOUS = "checkpoint.safetensors", "previous.safetensors"
_damaged: set[Path] = set()  # found by this process; such a file does not become the previous one


def ema_name(index: int) -> str:
    """``ema``, ``ema2``, ``ema3``, …"""
    return f"ema{index + 1}" if index else "ema"


def save(
    folder: Path,
    network: nn.Module,
    emas: Sequence[nn.Module],
    optimizer: torch.optim.Optimizer,
    step: int,
    losses: Tensor,
    seconds: float = 0.0,
) -> None:
    """Writes a checkpoint to ``folder`` and keeps the previous one. ``seconds``: of training so far, all legs together.

    Raises:
        OSError: it cannot be written; the last one is kept.
    """
    tensors = {f"raw.{k}": v for k, v in network.state_dict().items()}
    for index, ema in enumerate(emas):
        tensors |= {f"{ema_name(index)}.{k}": v for k, v in ema.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    for left in (*folder.glob("next.safetensors.*"), *folder.glob(".tmp??????")):  # by a process that was killed
        left.unlink(missing_ok=True)
    file, new = folder / NAME, folder / "next.safetensors"
    try:
        verified.write(new, tensors | {"losses": losses}, {"step": str(step), "seconds": str(seconds)})
    except OSError as error:
        if begun(folder):
            error.add_note("the last checkpoint is kept, and the same command resumes from it")
        raise
    if file.exists() and file not in _damaged:
        os.replace(file, folder / PREVIOUS)
    os.replace(new, file)
    _damaged.discard(file)


def begun(folder: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return (folder / NAME).exists() or (folder / PREVIOUS).exists()


def read(file: Path, prefix: str = "") -> tuple[dict[str, Tensor], int]:
    """Tensors and step; with ``prefix`` only those of that set, without it. Raises `UserError` if damaged."""
    tensors, step, _ = _read(file, prefix)
    return (part(tensors, prefix) if prefix else tensors), step


def _read(file: Path, prefix: str = "") -> tuple[dict[str, Tensor], int, float]:
    """Tensors, step and seconds."""
    try:
        tensors, about = verified.read(file, prefix)
        return tensors, int(about["step"]), float(about.get("seconds", 0))
    except (verified.Damaged, KeyError, ValueError) as error:
        fault = "it names no step" if isinstance(error, KeyError) else str(error)
        raise UserError(f"cannot read checkpoint {file}: {fault}; {_remedy(file)}") from None


def _remedy(file: Path) -> str:
    """What to do about a damaged checkpoint: the end of a message."""
    row, previous = file.with_name("row.json"), file.with_name(PREVIOUS)
    if file.name != NAME or not row.exists():
        return "it is left unchanged"
    if previous.exists():
        return f"remove {row} and rerun its training, which resumes from {PREVIOUS} to the same end"
    return f"remove {row} and {NAME}, and rerun its training"


def kinds(file: Path) -> list[str]:
    """The sets of weights in a checkpoint: ``raw``, ``ema``, …"""
    with safe_open(file, "pt") as opened:
        found = {key.partition(".")[0] for key in opened.keys()}  # noqa: SIM118 (not a dict)
    return sorted(found - {"optimizer", "losses"})


def content(folder: Path, kind: str) -> str:
    """SHA-256 of the weights ``kind`` in a folder: of names, types, shapes and values. `UserError` if unreadable."""
    file = folder / NAME
    changed = file.stat().st_mtime_ns if file.exists() else 0
    return _content(file, kind, changed)


@cache
def _content(file: Path, kind: str, changed: int) -> str:
    """It is computed anew when the file has ``changed``."""
    found = hashlib.sha256()
    for name, tensor in sorted(read(file, kind)[0].items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names begin with ``prefix.``, without this prefix."""
    return {key.removeprefix(f"{prefix}."): value for key, value in tensors.items() if key.startswith(f"{prefix}.")}


def fill(network: nn.Module, weights: dict[str, Tensor], file: Path) -> None:
    """Loads ``weights`` into ``network``. Raises `UserError` if they do not fit it."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        fault = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"checkpoint {file}: is of another network ({fault}); it is left unchanged") from None


def restore(
    folder: Path, network: nn.Module, emas: Sequence[nn.Module], optimizer: torch.optim.Optimizer
) -> tuple[int, Tensor, float]:
    """Loads network, averages and optimizer from ``folder``; returns step, losses and seconds so far.

    If the last checkpoint is damaged, the previous one is used; the final result is the same.

    Raises:
        UserError: no checkpoint can be read, or it is of another network.
    """
    file = folder / NAME
    try:
        tensors, step, seconds = _read(file)
    except UserError as error:
        if not (folder / PREVIOUS).exists():
            raise
        _damaged.add(file)
        file = folder / PREVIOUS
        try:
            tensors, step, seconds = _read(file)
        except UserError as other:
            raise UserError(f"{error}; {other}") from None
        print(f"warning: {error}; resuming from {file.name}, step {step}", file=sys.stderr)
    fill(network, part(tensors, "raw"), file)
    for index, ema in enumerate(emas):
        fill(ema, part(tensors, ema_name(index)), file)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in part(tensors, "optimizer").items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return step, tensors["losses"], seconds
