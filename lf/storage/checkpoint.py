"""Checkpoints: one safetensors file, written atomically, and the previous one beside it.

Tensors: ``raw.*`` the network, ``ema.*``, ``ema2.*``, … its averages, ``optimizer.N.*``, ``losses``; metadata: step.
A run resumes from it bit by bit: the position in the data and every random draw are functions of seed and step.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lf.core.errors import UserError
from lf.storage.atomic import replace_tensors

NAME, PREVIOUS = "checkpoint.safetensors", "previous.safetensors"


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
) -> None:
    """Writes a checkpoint to ``folder`` and keeps the previous one."""
    tensors = {f"raw.{k}": v for k, v in network.state_dict().items()}
    for index, ema in enumerate(emas):
        tensors |= {f"{ema_name(index)}.{k}": v for k, v in ema.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    replace_tensors(folder / "next.safetensors", tensors | {"losses": losses}, {"step": str(step)})
    if (folder / NAME).exists():
        os.replace(folder / NAME, folder / PREVIOUS)
    os.replace(folder / "next.safetensors", folder / NAME)


def begun(folder: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return (folder / NAME).exists() or (folder / PREVIOUS).exists()


def read(file: Path, prefix: str = "") -> tuple[dict[str, Tensor], int]:
    """Tensors and step; with ``prefix`` only those of that prefix, without it. Raises `UserError` if unreadable."""
    start = f"{prefix}." if prefix else ""
    try:
        with safe_open(file, "pt") as opened:
            step = int(json.loads(opened.metadata()["step"]))
            names = [key for key in opened.keys() if key.startswith(start)]  # noqa: SIM118 (not a dict)
            return {key.removeprefix(start): opened.get_tensor(key) for key in names}, step
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise UserError(f"cannot read checkpoint {file}: {error}; it is left unchanged") from None


def kinds(file: Path) -> list[str]:
    """The sets of weights in a checkpoint: ``raw``, ``ema``, …"""
    with safe_open(file, "pt") as opened:
        found = {key.partition(".")[0] for key in opened.keys()}  # noqa: SIM118 (not a dict)
    return sorted(found - {"optimizer", "losses"})


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
) -> tuple[int, Tensor]:
    """Loads network, averages and optimizer from ``folder``; returns the step and the losses so far.

    If the last checkpoint cannot be read, the previous one is used; the final result is the same.

    Raises:
        UserError: no checkpoint can be read, or it is of another network.
    """
    file = folder / NAME
    try:
        tensors, step = read(file)
    except UserError as error:
        if not (folder / PREVIOUS).exists():
            raise
        file = folder / PREVIOUS
        tensors, step = read(file)
        print(f"warning: {error}; resuming from {file.name}, step {step}", file=sys.stderr)
    fill(network, part(tensors, "raw"), file)
    for index, ema in enumerate(emas):
        fill(ema, part(tensors, ema_name(index)), file)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in part(tensors, "optimizer").items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return step, tensors["losses"]
