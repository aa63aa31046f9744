"""Checkpoint files as the public code writes them: see `published`."""

import argparse
from pathlib import Path
from typing import Any

import torch
from published import PublicNet
from torch import Tensor, nn


def args_of(**given: Any) -> argparse.Namespace:
    """The training's command line as the files keep it (field names of JiT's main_jit.py), with changes."""
    fields = {
        "model": "JiT-B/16", "img_size": 256, "attn_dropout": 0.0, "proj_dropout": 0.0, "epochs": 200,
        "warmup_epochs": 5, "batch_size": 128, "lr": 2e-4, "blr": 5e-5, "min_lr": 0.0, "lr_schedule": "constant",
        "weight_decay": 0.0, "ema_decay1": 0.9999, "ema_decay2": 0.9996, "P_mean": -0.8, "P_std": 0.8,
        "noise_scale": 1.0, "t_eps": 0.05, "label_drop_prob": 0.1, "seed": 0, "class_num": 1000,
        "sampling_method": "heun", "num_sampling_steps": 50, "cfg": 1.0, "interval_min": 0.0, "interval_max": 1.0,
    }  # fmt: skip
    return argparse.Namespace(**fields | given)


def write_checkpoint(
    file: Path,
    raw: PublicNet,
    ema1: PublicNet,
    ema2: PublicNet,
    args: argparse.Namespace,
    *,
    epoch: int = 3,
    encoder: nn.Module | None = None,
    guide: PublicNet | None = None,
) -> None:
    """A released file: whole state dicts of the training module, three times, with optimizer, epoch and arguments."""

    def whole(net: PublicNet) -> dict[str, Tensor]:
        module = nn.ModuleDict({"net": net})
        if encoder is not None:
            module["dino"] = encoder
        if guide is not None:
            module["ag_net"] = guide
        return module.state_dict()

    weights = [p for p in raw.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, betas=(0.9, 0.95), weight_decay=0)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    for _ in range(7):
        optimizer.step()
    torch.save(
        {
            "model": whole(raw),
            "model_ema1": whole(ema1),
            "model_ema2": whole(ema2),
            "optimizer": optimizer.state_dict(),
            "epoch": epoch,
            "args": args,
        },
        file,
    )
