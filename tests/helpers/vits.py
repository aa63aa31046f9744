"""Small random weights in the published formats of pretrained encoders, and what a network is shown."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from omegaconf import OmegaConf
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from lf import encoders
from lf.data import shapes, to_float
from lf.encoders.pretrained import Pretrained

DATA = shapes.make(range(24), resolution=64)
PATCH, GRID = 16, 4
X = to_float(DATA.images[:3])
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
LATENT_STD = 0.485
CPU = torch.device("cpu")


def seen(x: Tensor, side: int, mean: Tensor = MEAN, std: Tensor = STD) -> Tensor:
    """What a network is shown: ``side`` px, normalised."""
    x = (x + 1) / 2
    x = x if x.shape[-1] == side else F.interpolate(x, size=(side, side), mode="bicubic", align_corners=False)
    return (x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


def as_map(tokens: Tensor, grid: int = GRID) -> Tensor:
    """``(B, grid², C)`` → ``(B, C, grid, grid)``."""
    return tokens.permute(0, 2, 1).reshape(len(tokens), -1, grid, grid)


def randomised(net: nn.Module) -> nn.Module:
    """Every parameter drawn anew, so that a norm's affine or a bias that is dropped shows."""
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    for module in net.modules():
        if isinstance(module, nn.LayerNorm) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.eval()


def stats_file(folder: Path, *shape: int) -> tuple[Path, Tensor, Tensor]:
    """Made-up statistics as RAE keeps them; the file, mean and variance."""
    mean, var = torch.randn(*shape), torch.rand(*shape)
    torch.save({"mean": mean, "var": var}, folder / "stat.pt")
    return folder / "stat.pt", mean, var


def fields(folder: Path, **given: Any) -> dict[str, Any]:
    """Parameters of an encoder with statistics that change nothing but the scale."""
    width = given.pop("width")
    shape = (width, GRID, GRID) if given.get("per") == "element" else (width, 1, 1)
    torch.save({"mean": torch.zeros(shape), "var": torch.full(shape, 1 - 1e-5)}, folder / "unit.pt")
    return {"stats": str(folder / "unit.pt"), **given}


# --- small weights in the published formats ---------------------------------------------------------------------------


def moco_net(dim: int = 24, heads: int = 3, depth: int = 2) -> VisionTransformer:
    return VisionTransformer(img_size=224, patch_size=16, embed_dim=dim, depth=depth, num_heads=heads, num_classes=0)


def moco_state(net: nn.Module, dim: int) -> dict[str, Tensor]:
    """As MoCo-v3's training saves it: both encoders with their projectors, and the predictor."""
    own = {**net.state_dict(), "head.0.weight": torch.randn(8, dim), "head.1.running_mean": torch.randn(8)}
    state = {f"module.base_encoder.{k}": v for k, v in own.items()}
    state |= {f"module.momentum_encoder.{k}": torch.randn_like(v) for k, v in own.items()}
    return state | {"module.predictor.0.weight": torch.randn(8, 8)}


def data2vec_state(dim: int = 32, depth: int = 4, cell: int = 16, positions: int = 196) -> dict[str, Tensor]:
    """As fairseq names it, with the decoder that pretraining leaves."""

    def layer(name: str, *shape: int) -> dict[str, Tensor]:
        return {f"{name}.weight": torch.randn(*shape) * 0.2, f"{name}.bias": torch.randn(shape[0]) * 0.2}

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": 0.5 + torch.rand(dim), f"{name}.bias": torch.randn(dim) * 0.2}

    image = "modality_encoders.IMAGE"
    state = {
        f"{image}.extra_tokens": torch.randn(1, 1, dim),
        f"{image}.fixed_positional_encoder.positions": torch.randn(1, positions, dim),
        **layer(f"{image}.local_encoder.proj", dim, 3, cell, cell),
        **norm(f"{image}.context_encoder.norm"),
        **layer(f"{image}.decoder.blocks.0.0", dim, 3),
    }
    for i in range(depth):
        state |= layer(f"blocks.{i}.attn.qkv", 3 * dim, dim) | layer(f"blocks.{i}.attn.proj", dim, dim)
        state |= layer(f"blocks.{i}.mlp.fc1", 4 * dim, dim) | layer(f"blocks.{i}.mlp.fc2", dim, 4 * dim)
        state |= norm(f"blocks.{i}.norm1") | norm(f"blocks.{i}.norm2")
    return state


def data2vec_file(file: Path, **sizes: int) -> dict[str, Tensor]:
    """A checkpoint of fairseq, with what it keeps beside the weights."""
    state = data2vec_state(**sizes)
    config = OmegaConf.create({"task": {"_name": "mae_image_pretraining"}, "lr": [1e-3], "seed": None})
    torch.save(
        {
            "args": argparse.Namespace(arch="data2vec_multi"),
            "cfg": config,
            "model": {**state, "_ema": {"blocks.0.norm1.weight": torch.randn(3)}},
            "extra_state": {"val_loss": np.float64(0.5), "history": np.zeros(2)},
        },
        file,
    )
    return state


def dino_folder(folder: Path, **sizes: Any) -> Any:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3} | sizes
    config = transformers.Dinov2WithRegistersConfig(**({"image_size": 98, "patch_size": 14} | sizes))
    net = randomised(transformers.Dinov2WithRegistersModel(config))
    net.save_pretrained(folder)
    return net


SMALL = {
    "mocov3": {"weights": "moco", "dim": 24, "heads": 3},
    "data2vec2": {"weights": "data2vec", "dim": 32, "heads": 4, "block": 2},
    "dinov2": {"weights": "dino", "dim": 24},
    "timm": {"weights": "timm.safetensors", "model": "vit_tiny_patch16_224"},
    "hf": {"model": "hf"},
}  # fmt: skip
WIDTHS = {"mocov3": 24, "data2vec2": 32, "dinov2": 24, "timm": 192, "hf": 24}


def small(name: str, place: Path, **changed: Any) -> Pretrained:
    """The encoder ``name`` with the small weights below ``place``."""
    given = dict(SMALL[name])
    key = "model" if name == "hf" else "weights"
    made = encoders.create(name, **{**given, key: str(place / str(given[key])), **changed})
    assert isinstance(made, Pretrained)
    return made


def hf_folder(folder: Path, config: Any, model: Any, **more: Any) -> Any:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    net = randomised(model(config(**sizes, image_size=48, patch_size=8, **more)))
    net.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.25]}')
    return net
