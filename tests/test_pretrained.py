"""Pretrained encoders: small random weights in the published formats, against plain computations of the same."""

import argparse
import functools
import hashlib
import http.server
import json
import os
import re
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from toy import refusal, run, training

from lf import data, encoders
from lf.data import Batch, Dataset, Images, shapes, to_float
from lf.encoders import weights, whiten
from lf.encoders.conformance import EncoderConformance
from lf.encoders.pretrained import Pretrained
from lf.encoders.whitening import Moments, measure
from lf.errors import UserError

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


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small file or folder an encoder."""
    torch.manual_seed(1)
    place = tmp_path_factory.mktemp("weights")
    torch.save({"epoch": 300, "arch": "vit_base", "state_dict": moco_state(randomised(moco_net()), 24)}, place / "moco")
    data2vec_file(place / "data2vec")
    dino_folder(place / "dino")
    save_file(randomised(timm.create_model("vit_tiny_patch16_224")).state_dict(), place / "timm.safetensors")
    hf_folder(place / "hf", transformers.ViTConfig, transformers.ViTModel)
    return place


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


class TestConformance(EncoderConformance):
    data = DATA

    @pytest.fixture(autouse=True, params=[(n, PATCH) for n in SMALL] + [("mocov3", 32), ("dinov2", 8)], ids=str)
    def _case(self, request: pytest.FixtureRequest, place: Path) -> None:
        name, self.patch = request.param
        self.encoder = small(name, place)


# --- each against a plain computation ---------------------------------------------------------------------------------


def test_mocov3_is_timms_model_at_another_size_with_the_final_norm(tmp_path: Path) -> None:
    net = randomised(moco_net())
    torch.save({"state_dict": moco_state(net, 24)}, tmp_path / "moco.pth.tar")
    stats, mean, var = stats_file(tmp_path, 24, 1, 1)
    encoder = encoders.create("mocov3", weights=str(tmp_path / "moco.pth.tar"), dim=24, heads=3, stats=str(stats))
    net.set_input_size(64)
    with torch.no_grad():
        expected = (as_map(net.forward_features(seen(X, 64))[:, 1:]) - mean) / (var + 1e-5).sqrt() * LATENT_STD
    torch.testing.assert_close(encoder.load(DATA, PATCH, tmp_path)(X), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", [0, 2, 3])
def test_data2vec2_is_a_post_norm_transformer_cut_at_a_block_and_clamped(tmp_path: Path, block: int) -> None:
    state = data2vec_file(tmp_path / "d2v.pt")
    stats, mean, var = stats_file(tmp_path, 32, 1, 1)
    given = {"weights": str(tmp_path / "d2v.pt"), "stats": str(stats), "dim": 32, "heads": 4, "block": block}
    latents = encoders.create("data2vec2", **given).load(DATA, PATCH, tmp_path)(X)
    z = (as_map(data2vec_forward(state, seen(X, 64), block, heads=4)) - mean) / (var + 1e-5).sqrt()
    assert (z.abs() > 5).any()  # or the clamp is not tested
    torch.testing.assert_close(latents, z.clamp(-5, 5) * LATENT_STD, rtol=1e-4, atol=1e-4)


def data2vec_forward(w: dict[str, Tensor], x: Tensor, block: int, heads: int) -> Tensor:
    """Patch tokens after ``block``, by matrix products alone."""
    image = "modality_encoders.IMAGE"

    def linear(name: str, a: Tensor) -> Tensor:
        return a @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, a: Tensor) -> Tensor:
        centred = a - a.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    n, grid = len(x), x.shape[-1] // 16
    cells = x.reshape(n, 3, grid, 16, grid, 16).permute(0, 2, 4, 1, 3, 5).reshape(n, grid * grid, -1)
    kernel = w[f"{image}.local_encoder.proj.weight"]
    a = cells @ kernel.reshape(len(kernel), -1).T + w[f"{image}.local_encoder.proj.bias"]
    table = w[f"{image}.fixed_positional_encoder.positions"]
    table = table.reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
    table = F.interpolate(table, size=(grid, grid), mode="bicubic", align_corners=False)
    a = a + table.permute(0, 2, 3, 1).reshape(1, grid * grid, -1)
    a = torch.cat([w[f"{image}.extra_tokens"].expand(n, -1, -1), a], 1)
    a = norm(f"{image}.context_encoder.norm", a)
    for i in range(block + 1):
        at = f"blocks.{i}"
        q, k, v = linear(f"{at}.attn.qkv", a).reshape(n, len(a[0]), 3, heads, -1).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        a = norm(f"{at}.norm1", a + linear(f"{at}.attn.proj", mixed.permute(0, 2, 1, 3).reshape(a.shape)))
        inner = linear(f"{at}.mlp.fc1", a)
        inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
        a = norm(f"{at}.norm2", a + linear(f"{at}.mlp.fc2", inner))
    return a[:, 1:]


def test_dinov2_is_transformers_output_at_14_px_cells_with_the_last_affine_undone(tmp_path: Path) -> None:
    net = dino_folder(tmp_path / "dino")
    assert "encoder.layer.0.attention.attention.query.weight" in load_file(tmp_path / "dino" / "model.safetensors")
    stats, mean, var = stats_file(tmp_path, 24, GRID, GRID)
    encoder = encoders.create("dinov2", weights=str(tmp_path / "dino"), dim=24, stats=str(stats))
    with torch.no_grad():
        out = net(seen(X, 14 * GRID)).last_hidden_state[:, 1 + 4 :]
    plain = (out - net.layernorm.bias) / net.layernorm.weight
    expected = (as_map(plain.detach()) - mean) / (var + 1e-5).sqrt() * LATENT_STD
    torch.testing.assert_close(encoder.load(DATA, PATCH, tmp_path)(X), expected, rtol=1e-4, atol=1e-4)


def test_timm_is_the_librarys_model_with_its_own_normalisation_and_all_extra_tokens_dropped(tmp_path: Path) -> None:
    for name, extra in [("vit_tiny_patch16_224", 1), ("deit_tiny_distilled_patch16_224", 2)]:
        net = randomised(timm.create_model(name))
        torch.save({"state_dict": net.state_dict()}, tmp_path / "net.pth")
        given = fields(tmp_path, width=192, weights=str(tmp_path / "net.pth"))
        latents = encoders.create(f"timm:{name}", **given).load(DATA, PATCH, tmp_path)(X)
        net.set_input_size((64, 64))
        mean, std = (torch.tensor(net.pretrained_cfg[key]) for key in ("mean", "std"))
        with torch.no_grad():
            expected = as_map(net.forward_features(seen(X, 64, mean, std))[:, extra:]) * LATENT_STD
        torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-4)
    assert not MEAN.equal(torch.tensor(timm.create_model("vit_tiny_patch16_224").pretrained_cfg["mean"]))


def hf_folder(folder: Path, config: Any, model: Any, **more: Any) -> Any:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    net = randomised(model(config(**sizes, image_size=48, patch_size=8, **more)))
    net.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.25]}')
    return net


@pytest.mark.parametrize(
    ("kind", "extra"), [("ViT", 1), ("Dinov2", 1), ("DeiT", 2), ("SiglipVision", 0), ("CLIPVision", 1)]
)
def test_hf_is_the_librarys_last_hidden_state_at_any_size(tmp_path: Path, kind: str, extra: int) -> None:
    net = hf_folder(tmp_path / "net", getattr(transformers, f"{kind}Config"), getattr(transformers, f"{kind}Model"))
    given = fields(tmp_path, width=24)
    latents = encoders.create(f"hf:{tmp_path / 'net'}", **given).load(DATA, PATCH, tmp_path)(X)
    x = seen(X, 8 * GRID, torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.25]))
    options = {} if kind == "Dinov2" else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        expected = as_map(net(pixel_values=x, **options).last_hidden_state[:, extra:]) * LATENT_STD
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-4)


def test_hf_takes_the_image_half_of_a_model_of_images_and_texts(tmp_path: Path) -> None:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    vision = {**sizes, "image_size": 48, "patch_size": 8}
    config = transformers.CLIPConfig(vision_config=vision, text_config={**sizes, "vocab_size": 10}, projection_dim=8)
    net = randomised(transformers.CLIPModel(config))
    net.save_pretrained(tmp_path / "clip")
    (tmp_path / "clip" / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": MEAN.tolist(), "image_std": STD.tolist()})
    )
    given = fields(tmp_path, width=24)
    latents = encoders.create(f"hf:{tmp_path / 'clip'}", **given).load(DATA, PATCH, tmp_path)(X)
    with torch.no_grad():
        tokens = net.vision_model(pixel_values=seen(X, 32), interpolate_pos_encoding=True).last_hidden_state[:, 1:]
    torch.testing.assert_close(latents, as_map(tokens) * LATENT_STD, rtol=1e-4, atol=1e-4)


def test_a_clamp_bounds_whitened_latents_of_any_encoder(place: Path, tmp_path: Path) -> None:
    free, bound = (small("mocov3", place, clamp=c).load(DATA, PATCH, tmp_path)(X) for c in (None, 0.5))
    assert free.abs().max() > 0.5 * LATENT_STD
    torch.testing.assert_close(bound, free.clamp(-0.5 * LATENT_STD, 0.5 * LATENT_STD))


@pytest.mark.parametrize("name", SMALL)
def test_twice_the_pixels_and_twice_the_patch_keep_the_grid(name: str, place: Path, tmp_path: Path) -> None:
    wide = shapes.make(range(6), resolution=128)
    latents = small(name, place).load(wide, 32, tmp_path)(to_float(wide.images))
    assert latents.shape == (6, WIDTHS[name], GRID, GRID)


def full_moco(file: Path) -> dict[str, Any]:
    net = randomised(moco_net(768, 12, 12)).half()
    torch.save({"state_dict": moco_state(net, 768)}, file)
    return {"weights": str(file)}


def full_data2vec(file: Path) -> dict[str, Any]:
    state = data2vec_state(1024, 13)
    torch.save({"model": {name: tensor.half() for name, tensor in state.items()}}, file)
    return {"weights": str(file)}


def full_dino(folder: Path) -> dict[str, Any]:
    dino_folder(folder, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, image_size=518)
    return {"weights": str(folder)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "make", "dim"),
    [("mocov3", full_moco, 768), ("data2vec2", full_data2vec, 1024), ("dinov2", full_dino, 768)],
)
def test_the_published_size_gives_the_papers_latents(
    name: str, make: Callable[[Path], dict[str, Any]], dim: int, tmp_path: Path
) -> None:
    encoder = encoders.create(name, **make(tmp_path / "weights"))
    for resolution, patch in [(256, 16), (512, 32)]:
        data = shapes.make(range(1), resolution=resolution)
        latents = encoder.load(data, patch, tmp_path)(to_float(data.images))
        assert latents.shape == (1, encoder.channels(patch), 16, 16) == (1, dim, 16, 16)
        assert latents.isfinite().all()


# --- whitening --------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.sampled_from(["channel", "element"]),
    st.sampled_from([0.0, 3.0, 1e4]),
)
def test_moments_merged_from_batches_of_any_size_are_numpys(sizes: list[int], per: Any, offset: float) -> None:
    x = torch.randn(sum(sizes), 3, 2, 2, generator=torch.Generator().manual_seed(sum(sizes))) + offset
    moments = Moments(per)
    for part in x.split(sizes):
        moments.add(part)
    axis, shape = (0, (3, 2, 2)) if per == "element" else ((0, 2, 3), (3, 1, 1))
    found = moments.result()
    plain = x.double().numpy()
    np.testing.assert_allclose(found["mean"].numpy(), plain.mean(axis).reshape(shape), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found["var"].numpy(), plain.var(axis).reshape(shape), rtol=1e-6, atol=1e-9)


class Damaged(Dataset):
    """Ten images; those in ``bad`` are damaged, and what stands in for them is black."""

    name, digest, classes = "damaged", "0", ("a",)

    def __init__(self, bad: Sequence[int]):
        self.bad, self.asked = set(bad), list[int]()
        self.images = torch.randint(0, 256, (10, 3, 4, 4), dtype=torch.uint8)

    @property
    def resolution(self) -> int:
        return 4

    def __len__(self) -> int:
        return 10

    def read(self, rows: Sequence[int] | Tensor, flip: Tensor | None = None) -> Batch:
        rows = torch.as_tensor(rows)
        self.asked += rows.tolist()
        valid = torch.tensor([row not in self.bad for row in rows.tolist()])
        return Batch(self.images[rows] * valid.view(-1, 1, 1, 1), torch.zeros(len(rows)).long(), (), valid)


@pytest.mark.parametrize("batch", [1, 3, 4, 10, 64])
def test_measuring_reads_every_image_once_and_leaves_damaged_ones_out(batch: int) -> None:
    data = Damaged([0, 5, 6])
    found, count = measure(lambda x: x, data, "element", CPU, batch=batch)
    good = to_float(data.images[[1, 2, 3, 4, 7, 8, 9]]).double()
    assert data.asked == list(range(10)) and count == 7
    torch.testing.assert_close(found, {"mean": good.mean(0).float(), "var": good.var(0, correction=0).float()})


def test_measuring_some_images_spreads_them_over_the_set() -> None:
    data = Damaged([])
    _, count = measure(lambda x: x, data, "channel", CPU, batch=3, n=4)
    assert data.asked == [0, 2, 5, 7] and count == 4
    assert measure(lambda x: x, data, "channel", CPU, n=99)[1] == 10


def test_measuring_nothing_but_damaged_images_is_refused() -> None:
    with pytest.raises(UserError, match="none of 10 images"):
        measure(lambda x: x, Damaged(range(10)), "channel", CPU)


@pytest.mark.parametrize("per", ["channel", "element"])
def test_latents_of_the_data_they_were_measured_on_are_white(per: Any, place: Path, tmp_path: Path) -> None:
    latents = small("mocov3", place, per=per).load(DATA, PATCH, tmp_path)(to_float(DATA.images)).double()
    axis = 0 if per == "element" else (0, 2, 3)
    torch.testing.assert_close(latents.mean(axis), torch.zeros_like(latents.mean(axis)), rtol=0, atol=1e-4)
    std = latents.std(axis, correction=0)
    torch.testing.assert_close(std, torch.full_like(std, LATENT_STD), rtol=1e-2, atol=0)


def test_statistics_are_measured_once_for_the_same_weights_and_data(place: Path, tmp_path: Path) -> None:
    def files_after(data: Images = DATA, patch: int = PATCH, where: Path = place, **changed: Any) -> int:
        small("mocov3", where, **changed).load(data, patch, tmp_path)
        return len(list(tmp_path.glob("whitening-*.safetensors")))

    assert files_after() == 1
    (file,) = tmp_path.glob("whitening-*.safetensors")
    written = file.stat().st_mtime_ns
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "moco").write_bytes((place / "moco").read_bytes())
    assert files_after(loss_weight=0.5) == files_after(clamp=1.0) == files_after(where=tmp_path / "elsewhere") == 1
    assert file.stat().st_mtime_ns == written
    assert files_after(per="element") == 2 and files_after(patch=32) == 3
    assert files_after(data=shapes.make(range(20), resolution=64)) == 4
    torch.save({"state_dict": moco_state(randomised(moco_net()), 24)}, tmp_path / "elsewhere" / "moco")
    assert files_after(where=tmp_path / "elsewhere") == 5


@pytest.mark.parametrize(
    ("stats", "cause"),
    [
        ({"mean": torch.zeros(24, 1, 1)}, "no tensor 'var'"),
        (
            {"mean": torch.zeros(24, 4, 4), "var": torch.ones(24, 4, 4)},
            r"mean is \(24, 4, 4\) and should be \(24, 1, 1\)",
        ),
        ([torch.zeros(3)], "holds a list"),
    ],
)
def test_statistics_of_something_else_are_refused(stats: Any, cause: str, place: Path, tmp_path: Path) -> None:
    torch.save(stats, tmp_path / "stat.pt")
    with pytest.raises(UserError, match=rf"mocov3.stats=.*stat\.pt: .*{cause}"):
        small("mocov3", place, stats=str(tmp_path / "stat.pt")).load(DATA, PATCH, tmp_path)


def test_missing_statistics_are_named_with_the_command_that_makes_them(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dinov2.stats=nowhere.pt: no such file; python -m lf.encoders.whiten dinov2"):
        small("dinov2", place, stats="nowhere.pt").load(DATA, PATCH, tmp_path)


def test_loading_leaves_the_global_random_state_of_training_alone(place: Path, tmp_path: Path) -> None:
    for name in SMALL:
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        small(name, place).load(DATA, PATCH, tmp_path)
        assert torch.rand(1).equal(expected), name


# --- finding and checking weights -------------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, and empty caches below the folder returned."""

    def refused(*_: Any, **__: Any) -> None:
        raise OSError("no network in tests\nat all")

    monkeypatch.setattr(urllib.request, "urlopen", refused)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refused)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mocov3"], ["torch/checkpoints/vit-b-300ep.pth.tar", "https://dl.fbaipublicfiles.com/moco-v3/vit-b-300ep/"]),
        (["data2vec2"], ["checkpoints/large_imagenet.pt", "https://dl.fbaipublicfiles.com/fairseq/data2vec2/"]),
        (["dinov2"], ["facebook/dinov2-with-registers-base", "hf download", "/hub", "FOLDER"]),
        (["timm:vit_tiny_patch16_224"], ["timm/vit_tiny_patch16_224", "model.safetensors", "hf download"]),
        (["hf:facebook/dinov2-base"], ["facebook/dinov2-base", "config.json", "hf download"]),
        (["mocov3", "encoder.weights=/no/such"], ["mocov3.weights=/no/such", "get https://dl", "put it there"]),
        (["mocov3", "encoder.weights=no/such.pth"], ["mocov3.weights=no/such.pth: no such file or folder"]),
        (
            ["dinov2", "encoder.weights=/no/such"],
            ["dinov2.weights=/no/such", "get facebook/dinov2-with-registers-base"],
        ),
    ],
    ids=lambda v: " ".join(v),
)
def test_missing_weights_are_one_line_with_where_to_get_them_and_where_to_put_them(
    words: list[str], said: list[str], offline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_data = ["digits", "resolution=32", f"runtime.runs={offline}/runs"]
    line = refusal(whiten.main, [words[0], *small_data, *words[1:]], capsys)
    assert all(part in line for part in said), line


def test_a_url_is_downloaded_once_to_torchs_cache(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    asked: list[str] = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            asked.append(str(args[0]))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=place)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        first, again = (
            encoders.create("mocov3", weights=f"{url}/moco", dim=24, heads=3).load(DATA, PATCH, tmp_path)(X)
            for _ in range(2)
        )
        with pytest.raises(UserError, match=r"mocov3.weights: no file .*/checkpoints/none.pth, .*404"):
            encoders.create("mocov3", weights=f"{url}/none.pth").load(DATA, PATCH, tmp_path)
        server.shutdown()
    assert first.equal(again) and first.equal(small("mocov3", place).load(DATA, PATCH, tmp_path)(X))
    assert (tmp_path / "torch/checkpoints/moco").read_bytes() == (place / "moco").read_bytes()
    assert sum("GET /moco" in line for line in asked) == 1


@pytest.mark.parametrize("name", ["dinov2", "timm", "hf"])
def test_the_hubs_cache_is_used_without_a_network(name: str, place: Path, offline: Path) -> None:
    snapshot = offline / "hub" / "models--some--vit" / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    if name == "timm":
        snapshot.mkdir()
        (snapshot / "model.safetensors").symlink_to(place / "timm.safetensors")
    else:
        snapshot.symlink_to(place / {"dinov2": "dino", "hf": "hf"}[name])
    key = "model" if name == "hf" else "weights"
    cached = encoders.create(name, **{**SMALL[name], key: "some/vit"})
    assert cached.load(DATA, PATCH, offline)(X).equal(small(name, place).load(DATA, PATCH, offline)(X))


@pytest.mark.parametrize("name", SMALL)
def test_a_wrong_sha256_is_refused_and_the_right_one_is_not(name: str, place: Path, tmp_path: Path) -> None:
    file = place / {"dinov2": "dino/model.safetensors", "hf": "hf/model.safetensors"}.get(
        name, str(SMALL[name].get("weights"))
    )
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    small(name, place, sha256=right).load(DATA, PATCH, tmp_path)
    with pytest.raises(UserError, match=rf"{name}.weights=.*: has SHA-256 {right} and should have {'0' * 64}"):
        small(name, place, sha256="0" * 64).load(DATA, PATCH, tmp_path)
    with pytest.raises(UserError, match=rf"{name}.sha256='abc'"):
        small(name, place, sha256="abc")


def _without(key: str) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        state = load_file(file / "model.safetensors")
        state.pop(key)
        save_file(state, file / "model.safetensors", {"format": "pt"})

    return spoil


def _rewritten(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda file: torch.save(change(torch.load(file, weights_only=False)), file)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def _shorter(found: Any) -> Any:
    return {"state_dict": {k: v[:12] if v.ndim == 1 else v for k, v in found["state_dict"].items()}}


def _no_blocks(found: Any) -> Any:
    return {"model": {k: v for k, v in found["model"].items() if not k.startswith("blocks.2.")}}


@pytest.mark.parametrize(
    ("name", "spoil", "cause"),
    [
        ("mocov3", _cut, "cannot be read"),
        ("mocov3", lambda file: torch.save({"state_dict": os.system}, file), "it holds (posix|nt).system"),
        ("mocov3", lambda file: torch.save({"state_dict": {}}, file), "is no MoCo-v3 checkpoint"),
        ("mocov3", lambda file: torch.save([1], file), "holds a list"),
        ("mocov3", _rewritten(_shorter), "another network: size mismatch"),
        ("data2vec2", _rewritten(lambda f: {"model": {"blocks.0.norm1.weight": torch.ones(3)}}), "is no data2vec 2.0"),
        ("data2vec2", lambda file: torch.save({"model": None}, file), "is no data2vec 2.0"),
        ("data2vec2", _rewritten(_no_blocks), "another network: Missing key.*blocks.2"),
        ("dinov2", _without("layernorm.weight"), "has no layernorm.weight"),
        ("dinov2", lambda folder: (folder / "config.json").unlink(), "no config of transformers"),
        ("dinov2", lambda folder: hf_folder(folder, transformers.ViTConfig, transformers.ViTModel), "holds a vit"),
        ("timm", _cut, "cannot be used on 4 × 4 places"),
        ("hf", _without("layernorm.weight"), "has no layernorm.weight"),
        ("hf", lambda folder: (folder / "preprocessor_config.json").unlink(), "no image_mean and image_std"),
        ("hf", lambda folder: (folder / "model.safetensors").unlink(), "cannot be used on 4 × 4 places"),
    ],
)  # fmt: skip
def test_weights_of_something_else_are_one_line(
    name: str, spoil: Callable[[Path], Any], cause: str, place: Path, tmp_path: Path
) -> None:
    given = str(SMALL[name].get("weights", "hf"))
    subprocess.run(["cp", "-r", str(place / given), str(tmp_path / given)], check=True)
    spoil(tmp_path / given)
    with pytest.raises(UserError, match=rf"^{name}.weights=.*: .*{cause}") as refused:
        small(name, tmp_path).load(DATA, PATCH, tmp_path)
    assert "\n" not in str(refused.value)


def test_a_width_that_the_weights_do_not_have_is_refused(place: Path, tmp_path: Path) -> None:
    for name, width in [("mocov3", 24), ("data2vec2", 32), ("dinov2", 24)]:
        with pytest.raises(UserError, match=rf"^{name}.dim=48: these weights have {width}$"):
            small(name, place, dim=48).load(DATA, PATCH, tmp_path)


# --- names and configs ------------------------------------------------------------------------------------------------


def test_the_width_of_a_stream_is_known_without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "_from_url", None)
    monkeypatch.setattr(weights, "_from_hub", None)
    monkeypatch.setattr(weights, "read", None)
    transformers.ViTConfig(hidden_size=24, patch_size=8).save_pretrained(tmp_path)
    latents = f"[mocov3, data2vec2, dinov2, timm:vit_small_patch14_dinov2, {{name: hf, model: {tmp_path}}}]"
    streams = training(f"latents={latents}").streams
    assert [s.channels for s in streams] == [3, 768, 1024, 768, 384, 24]
    assert [s.loss_weight for s in streams] == [1, 1, 0.25, 0.333, 1, 1]


def test_a_colon_is_short_for_the_model() -> None:
    short, long = (
        training("latents=timm:vit_small_patch16_224"),
        training("latents={name: timm, model: vit_small_patch16_224}"),
    )
    assert short == long
    assert short.latents[0].model_dump()["model"] == "vit_small_patch16_224"
    assert encoders.create("hf:some/vit", per="element") == encoders.create("hf", model="some/vit", per="element")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "timm:vit_smal_patch16_224",
            "timm.model=vit_smal_patch16_224: unknown to timm; did you mean 'vit_small_patch16",
        ),
        ("timm", "timm.model: none is given"),
        ("timm:resnet18", "timm.model=resnet18: is no vision transformer"),
        ("hf", "hf.model: none is given"),
        ("tiny:big", "tiny.model: unknown key"),
    ],
)
def test_a_model_that_is_none_is_one_line(name: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        encoders.create(name).channels(PATCH)
    assert str(refused.value).startswith(said) and "\n" not in str(refused.value)


def test_a_number_of_heads_that_does_not_divide_the_width_is_one_line(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="^mocov3.weights=.*: cannot be used on 4 × 4 places"):
        small("mocov3", place, heads=5).load(DATA, PATCH, tmp_path)


def test_two_models_are_refused() -> None:
    with pytest.raises(UserError, match="timm.model=b: 'timm:a' names another model"):
        encoders.create("timm:a", model="b")


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_what_stats_takes(place: Path, store: Path, tmp_path: Path) -> None:
    words = [
        "mocov3", f"folder:{store}/images", "resolution=32", "patch=16", "encoder.dim=24", "encoder.heads=3",
        f"encoder.weights={place}/moco", f"runtime.runs={tmp_path}/runs", "runtime.threads=1",
    ]  # fmt: skip
    code, out, err = run("lf.encoders.whiten", *words, "n=10", "batch=3", f"out={tmp_path}/stats.safetensors")
    assert (code, out) == (0, f"{tmp_path}/stats.safetensors\n"), err
    with safe_open(tmp_path / "stats.safetensors", "pt") as file:
        about = {key: json.loads(value) for key, value in file.metadata().items()}
    assert about["images"] == 10 and about["encoder"]["weights"] == f"{place}/moco" and about["patch"] == 16

    images = data.open(f"folder:{store}/images", 32, tmp_path)
    assert about["data"] == images.digest
    encoder = small("mocov3", place)
    some = to_float(images.read(torch.arange(10) * len(images) // 10).images)
    with torch.no_grad():
        features = encoder.unwhitened(32, 16).features(some).double()
    found = load_file(tmp_path / "stats.safetensors")
    torch.testing.assert_close(found["mean"].flatten(), features.mean((0, 2, 3)).float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        found["var"].flatten(), features.var((0, 2, 3), correction=0).float(), rtol=1e-4, atol=1e-6
    )
    latents = small("mocov3", place, stats=f"{tmp_path}/stats.safetensors").load(images, 16, tmp_path / "none")(some)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(24), rtol=0, atol=1e-4)
    assert not (tmp_path / "none").exists()

    code, out, err = run("lf.encoders.whiten", *words)  # for the training itself
    (kept,) = (tmp_path / "runs" / "cache").glob("whitening-*.safetensors")
    assert (code, out) == (0, f"{kept}\n"), err
    written = kept.stat().st_mtime_ns
    encoder.load(images, 16, tmp_path / "runs" / "cache")
    assert [kept] == list((tmp_path / "runs" / "cache").glob("whitening-*.safetensors"))
    assert kept.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "ENCODER DATA"),
        (["mocov3"], "ENCODER DATA"),
        (["mocov3", "resolution=32"], "ENCODER DATA"),
        (["mocov4", "shapes"], "unknown name 'mocov4'; allowed: .*did you mean 'mocov3'"),
        (["mocov3", "shaped"], "data=shaped: unknown"),
        (["mocov3", "shapes", "encoder.dims=3"], "mocov3.dims: unknown key; .*did you mean 'dim'"),
        (["mocov3", "shapes", "batches=3"], "batches: unknown key; .*did you mean 'batch'"),
        (["mocov3", "shapes", "resolution=40"], "resolution=40: must be a multiple of patch=16"),
        (["tiny", "shapes"], "tiny: is not whitened"),
        (["mocov3", "shapes", "n=5"], "out: give a file where n is given"),
        (["mocov3", "shapes", "out=a.pt"], "out=a.pt: must end in .safetensors"),
        (["mocov3", "shapes", "out={there}"], "exists already"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_the_command_refuses_in_one_line(
    words: list[str], said: str, offline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = offline / "there.safetensors"
    there.touch()
    line = refusal(
        whiten.main, [*(w.format(there=there) for w in words), *[f"runtime.runs={offline}"] * bool(words)], capsys
    )
    assert re.search(said, line), line


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        whiten.main(["--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert "python -m lf.encoders.whiten ENCODER DATA" in said and "resolution" in said and "runtime.device" in said
