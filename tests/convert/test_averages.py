"""Averages as the public code keeps them: over all parameters, the constant position table too, in float32."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from converted import SMALL, WORDS, nets
from published import PublicNet, randomize
from published_files import args_of, write_checkpoint
from torch import nn

from lf import LatentForcing, convert
from lf.core.errors import UserError

LATENT = "latents=[{name: pixels, cells: 2}]"
KINDS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"repa": 12}, ["repa.name=pixels", "repa.cells=2"]),
    ({"latent": 12}, [LATENT]),
    ({"latent": 12, "expert": 48}, [LATENT]),
]


def averaged(net: PublicNet, steps: int = 2000, decay: float = 0.9999) -> PublicNet:
    """The average after ``steps`` steps in which no weight moved: every parameter drifts by rounding alone."""
    average = deepcopy(net)
    with torch.no_grad():
        for _ in range(steps):
            for target, source in zip(average.parameters(), net.parameters(), strict=True):
                target.mul_(decay).add_(source, alpha=1 - decay)
    return average


@pytest.mark.parametrize(("parts", "words"), KINDS, ids=["JiT", "REPA", "LF", "LF with experts"])
def test_an_average_of_2000_steps_converts(parts: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    raw = randomize(PublicNet(**SMALL | parts))
    drifted = averaged(raw)
    table = dict(drifted.named_parameters())["pos_embed"]
    assert 1e-5 < (table - dict(raw.named_parameters())["pos_embed"]).abs().max() < 2e-4, "the table drifts"
    write_checkpoint(tmp_path / "public.pth", raw, drifted, drifted, args_of())
    convert.main([str(tmp_path / "public.pth"), str(tmp_path / "run"), *WORDS, *words])
    model = LatentForcing.from_pretrained(tmp_path / "run")
    exact = deepcopy(drifted)
    with torch.no_grad():
        exact.pos_embed.copy_(raw.pos_embed)
        z = [torch.randn(2, *stream.shape) for stream in model.streams]
        t, y = torch.rand(2, len(z)), torch.tensor([3, model.classes])
        found = model.network(z, t, y).x
        for net, bound in ((drifted, 5e-4), (exact, 1e-4)):
            for ours, theirs in zip(found, net(z, list(t.T), y)[0], strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_converts(dtype: torch.dtype, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "public.pth", *nets(), args_of())
    file = torch.load(tmp_path / "public.pth", weights_only=False)
    names = ("model", "model_ema1", "model_ema2")
    halves = {name: {key: value.to(dtype) for key, value in file[name].items()} for name in names}
    torch.save(file | halves, tmp_path / "half.pth")
    convert.main([str(tmp_path / "half.pth"), str(tmp_path / "run"), *WORDS])
    assert {p.dtype for p in LatentForcing.from_pretrained(tmp_path / "run").parameters()} == {torch.float32}


def test_a_table_that_is_something_else_is_refused(tmp_path: Path) -> None:
    broken = nets()
    with torch.no_grad():
        broken[1].pos_embed += 1e-3
    write_checkpoint(tmp_path / "other.pth", *broken, args_of())
    with pytest.raises(UserError, match=r"model_ema1, net\.\*: pos_embed: is not the fixed 2-D sines and cosines"):
        convert.main([str(tmp_path / "other.pth"), str(tmp_path / "run"), *WORDS])


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    broken = nets()
    with torch.no_grad():
        broken[1].blocks[1].attn.qkv.weight[3, 4] = float("nan")
    write_checkpoint(tmp_path / "nan.pth", *broken, args_of())
    with pytest.raises(
        UserError, match=r"model_ema1, net\.\*: values that are not finite in 'blocks.1.attn.qkv.weight'"
    ):
        convert.main([str(tmp_path / "nan.pth"), str(tmp_path / "run"), *WORDS])


def _prefixed(prefix: str) -> Callable[[dict[str, Any]], Any]:
    return lambda file: (
        file
        | {
            name: {prefix + key: value for key, value in file[name].items()}
            for name in ("model", "model_ema1", "model_ema2")
        }
    )


@pytest.mark.parametrize(
    ("change", "weights"),
    [
        (_prefixed("module."), ["ema", "ema2", "raw"]),
        (_prefixed("_orig_mod."), ["ema", "ema2", "raw"]),
        (lambda file: file["model_ema1"], ["ema"]),
        (lambda file: {k.removeprefix("net."): v for k, v in file["model_ema1"].items()}, ["ema"]),
        (lambda file: {"model_ema1": file["model_ema1"]}, ["ema"]),
        (lambda file: {"model": file["model_ema1"], "epoch": 3}, ["ema"]),
        (lambda file: file | {"optimizer": None}, ["ema", "ema2", "raw"]),
        (lambda file: file | {"optimizer": [1]}, ["ema", "ema2", "raw"]),
        (lambda file: file | {"epoch": "39"}, ["ema", "ema2", "raw"]),
        (lambda file: {k: v for k, v in file.items() if k not in ("args", "epoch")}, ["ema", "ema2", "raw"]),
    ],
    ids=[
        "module",
        "compiled",
        "bare",
        "bare network",
        "an average",
        "no average",
        "no optimizer",
        "odd optimizer",
        "text epoch",
        "no args",
    ],
)
def test_what_people_keep_of_a_file_is_read(
    change: Callable[[dict[str, Any]], Any], weights: list[str], tmp_path: Path
) -> None:
    public = nets()
    write_checkpoint(tmp_path / "public.pth", *public, args_of())
    torch.save(change(torch.load(tmp_path / "public.pth", weights_only=False)), tmp_path / "kept.pth")
    convert.main([str(tmp_path / "kept.pth"), str(tmp_path / "run"), *WORDS])
    for name in weights:
        assert LatentForcing.from_pretrained(tmp_path / "run", name)
    model = LatentForcing.from_pretrained(tmp_path / "run")
    assert model.network.label.weight.equal(public[1].y_embedder.embedding_table.weight)
    with pytest.raises(UserError, match=f"allowed: {', '.join(weights)}"):
        LatentForcing.from_pretrained(tmp_path / "run", "ema3")


def test_a_text_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "notes.pth").write_text("epoch 39\n")
    with pytest.raises(UserError, match="cannot read .*: it is no torch checkpoint"):
        convert.main([str(tmp_path / "notes.pth"), str(tmp_path / "run"), *WORDS])


def test_a_bottleneck_of_its_own_for_the_latent_is_refused_by_name(tmp_path: Path) -> None:
    public = nets(latent=12)
    for net in public:
        net.dino_embedder.proj1 = nn.Conv2d(12, 8, 1, bias=False)
        net.dino_embedder.proj2 = nn.Conv2d(8, 32, 1)
    write_checkpoint(tmp_path / "lf.pth", *public, args_of())
    with pytest.raises(UserError, match="bottleneck_dim_dino=8: must equal that of the pixels here, 16"):
        convert.main([str(tmp_path / "lf.pth"), str(tmp_path / "run"), *WORDS, LATENT])
