"""Checkpoints: one safetensors file, written whole or not at all."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lf.errors import UserError
from lf.files import replace_tensors


def save(
    file: Path, network: nn.Module, ema: AveragedModel, optimizer: torch.optim.Optimizer, step: int, losses: Tensor
) -> None:
    """Everything that a run needs to go on, bit by bit: all randomness is a function of seed and step."""
    tensors = {f"raw.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    replace_tensors(file, tensors | {"losses": losses}, {"step": str(step)})


def read(file: Path) -> tuple[dict[str, Tensor], int]:
    """Tensors and step of a checkpoint. Raises `UserError` if it cannot be read."""
    try:
        with safe_open(file, "pt") as opened:
            step = int(json.loads(opened.metadata()["step"]))
            return {key: opened.get_tensor(key) for key in opened.keys()}, step  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise UserError(f"cannot read checkpoint {file}: {error}; it is left as it is") from None


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries below ``prefix.``, without it."""
    return {key.removeprefix(f"{prefix}."): value for key, value in tensors.items() if key.startswith(f"{prefix}.")}


def fill(network: nn.Module, weights: dict[str, Tensor], file: Path) -> None:
    """Loads ``weights`` into ``network``. Raises `UserError` if they are another network's."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        fault = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"checkpoint {file}: is of another network ({fault}); it is left as it is") from None


def restore(file: Path, network: nn.Module, ema: AveragedModel, optimizer: torch.optim.Optimizer) -> tuple[int, Tensor]:
    """Fills network, EMA and optimizer from ``file``; returns the step and the losses so far."""
    tensors, step = read(file)
    fill(network, part(tensors, "raw"), file)
    fill(ema.module, part(tensors, "ema"), file)
    ema.n_averaged.fill_(step)  # at 0 the next update would copy the weights instead of averaging
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in part(tensors, "optimizer").items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return step, tensors["losses"]
