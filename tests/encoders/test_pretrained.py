"""Pretrained encoders: small random weights in the published formats, against plain computations of the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from vits import (
    DATA,
    GRID,
    LATENT_STD,
    MEAN,
    PATCH,
    SMALL,
    STD,
    WIDTHS,
    X,
    as_map,
    data2vec_file,
    data2vec_state,
    dino_folder,
    fields,
    hf_folder,
    moco_net,
    moco_state,
    randomised,
    seen,
    small,
    stats_file,
)

from lf import encoders
from lf.core.errors import UserError
from lf.data import shapes, to_float
from lf.encoders.conformance import EncoderConformance


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


def test_whitening_without_eps_is_that_of_the_public_code(place: Path, tmp_path: Path) -> None:
    encode = small("mocov3", place, eps=0.0).load(DATA, PATCH, tmp_path)
    (file,) = tmp_path.glob("whitening-mocov3-*.safetensors")
    z, statistics = encode.features(X), load_file(file)
    expected = (z - statistics["mean"]) / statistics["var"].sqrt() * LATENT_STD
    torch.testing.assert_close(encode(X), expected)
    small("mocov3", place).load(DATA, PATCH, tmp_path)  # eps is no part of what is measured
    assert len(list(tmp_path.glob("whitening-mocov3-*.safetensors"))) == 1
    save_file(statistics | {"var": torch.zeros_like(statistics["var"])}, tmp_path / "flat.safetensors")
    with pytest.raises(UserError, match="mocov3.eps=0: a channel of its latents does not vary in .*flat"):
        small("mocov3", place, eps=0.0, stats=str(tmp_path / "flat.safetensors")).load(DATA, PATCH, tmp_path)


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
