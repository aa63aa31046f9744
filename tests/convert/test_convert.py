"""Conversion of public checkpoints: what comes out of a file is the network that was in it."""

import json
import os
from pathlib import Path

import pytest
import torch
from converted import LATENT, SMALL, WORDS, check, nets, refused
from published import PublicNet, randomize, sincos
from published_files import args_of, write_checkpoint
from safetensors.torch import load_file
from torch import nn
from torchvision.io import read_image
from toy import PLAIN, Judged, files, run

from lf import convert
from lf.convert import config_of
from lf.model.denoiser import LatentForcing
from lf.network import Network, NetworkConfig


def test_a_file_of_jit_as_a_user_converts_it(tmp_path: Path) -> None:
    public = nets()
    args = args_of(P_mean=-0.6, noise_scale=2.0, ema_decay2=0.9996, lr=3e-4, batch_size=64, world_size=2, t_eps=0.04)
    write_checkpoint(tmp_path / "jit.pth", *public, args, epoch=6)
    code, out, err = run("lf.convert", str(tmp_path / "jit.pth"), str(tmp_path / "deep" / "run"), *WORDS)
    assert (code, err) == (0, "")
    assert out.splitlines() == ["not used: optimizer", f"{tmp_path / 'deep' / 'run'}: pixels, 3 blocks of 32, 7 steps"]
    assert sorted(files(tmp_path / "deep")) == [
        "run/checkpoint.safetensors", "run/config.json", "run/evaluation.yaml",
    ]  # fmt: skip
    check(tmp_path / "deep" / "run", public)

    config = json.loads((tmp_path / "deep" / "run" / "config.json").read_text())
    expected = {
        "data": "digits", "resolution": 16, "latents": [], "steps": 7, "batch": 128, "lr": 3e-4, "warmup": 5,
        "ema": [0.9999, 0.9996], "noise_scale": 2.0, "label_dropout": 0.1, "repa": None,
    }  # fmt: skip
    assert {key: config[key] for key in expected} == expected
    assert {"name": "pixel_only", "P_mean": -0.6, "t_clip": 0.04}.items() <= config["schedule"].items()
    assert config["source"].keys() == {"file", "sha256", "epoch"}
    assert (config["source"]["file"], config["source"]["epoch"]) == ("jit.pth", 6)


def test_a_file_of_latent_forcing_with_encoder_and_guide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public = nets(latent=12, expert=48)
    guide = randomize(PublicNet(**SMALL | {"depth": 12, "width": 384, "heads": 6, "class_block": 4}, latent=12), 3)
    write_checkpoint(tmp_path / "lf.pth", *public, args_of(D_mean=-1.4), encoder=nn.Linear(3, 2), guide=guide)
    convert.main([str(tmp_path / "lf.pth"), str(tmp_path / "run"), *WORDS, LATENT])
    assert capsys.readouterr().out.splitlines() == [
        "not used: optimizer, dino.*",
        f"{tmp_path / 'run'}: pixels + pixels_latent, 3 blocks of 32, experts of 48, 7 steps",
        f"{tmp_path / 'run-guide'}: pixels + pixels_latent, 12 blocks of 384, 7 steps",
    ]
    assert sorted(os.listdir(tmp_path)) == ["lf.pth", "run", "run-guide"]
    check(tmp_path / "run", public)
    check(tmp_path / "run-guide", [guide] * 3)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {"name": "cascaded", "D_mean": -1.4, "P_mean": -0.8}.items() <= config["schedule"].items()
    assert json.loads((tmp_path / "run-guide" / "config.json").read_text())["network"]["class_token_block"] == 4


def test_repa_acts_where_the_class_tokens_come_in(tmp_path: Path) -> None:
    public = nets(repa=12)
    write_checkpoint(tmp_path / "repa.pth", *public, args_of())
    convert.main([str(tmp_path / "repa.pth"), str(tmp_path / "run"), *WORDS, "repa.name=pixels", "repa.cells=2"])
    check(tmp_path / "run", public)
    model = LatentForcing.from_pretrained(tmp_path / "run")
    assert (model.config.network.repa_block, model.config.network.repa_width) == (1, 12)


def test_the_file_stays_as_it_is_and_the_folder_is_not_written_over(
    jit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = jit.read_bytes()
    convert.main([str(jit), str(jit.parent / "out"), *WORDS])
    assert jit.read_bytes() == before
    assert "out: exists and is not overwritten" in refused(jit, capsys, *WORDS)


SIZES = [
    ("S", {"width": 384, "depth": 12, "heads": 6, "bottleneck": 128}, 4),
    ("B", {"width": 768, "depth": 12, "heads": 12, "bottleneck": 128}, 4),
    ("LM", {"width": 1024, "depth": 20, "heads": 16, "bottleneck": 128}, 8),
    ("L", {"width": 1024, "depth": 24, "heads": 16, "bottleneck": 128}, 8),
    ("H", {"width": 1280, "depth": 32, "heads": 16, "bottleneck": 256}, 10),
]  # fmt: skip


@pytest.mark.parametrize(
    "parts", [{}, {"latent": 768}, {"latent": 1024, "expert": 1280}, {"latent": 48}, {"repa": 768}], ids=str
)
@pytest.mark.parametrize(("name", "size", "block"), SIZES)
def test_released_sizes_are_known_by_their_shapes(name: str, size: dict, block: int, parts: dict) -> None:
    with torch.device("meta"):
        shapes = PublicNet(image=256, patch=16, classes=1000, **size, **parts).state_dict()
    state = {key: torch.zeros(()).expand(value.shape) for key, value in shapes.items()}  # takes no memory
    found, tensors = convert.convert(state | {"pos_embed": sincos(size["width"], 16)})
    assert (found.resolution, found.latent, found.classes) == (256, parts.get("latent", 0), 1000)
    config = config_of(found, {"steps": 1, "batch": 1, "lr": 1.0}, {})
    named = {768: ("dinov2", 0.333), 1024: ("data2vec2", 0.25), 48: ("pixels_latent", 1.0)}
    latents = [named[parts["latent"]]] if "latent" in parts else []
    assert [(stream.name, stream.loss_weight) for stream in config.streams] == [("pixels", 1.0), *latents]
    experts, repa = {"expert_width": parts.get("expert", 0)}, {"repa_block": block, "repa_width": 768}
    assert config.network == NetworkConfig(size=name, patch=16, **experts, **(repa if "repa" in parts else {}))
    with torch.device("meta"):
        expected = Network(config.network, config.streams, 1000).state_dict()
    assert {k: v.shape for k, v in tensors.items()} == {k: v.shape for k, v in expected.items()}


def test_a_converted_run_draws_images_with_its_guide(tmp_path: Path) -> None:
    guide = randomize(PublicNet(**SMALL | {"depth": 12, "width": 384, "heads": 6, "class_block": 4}, latent=12), 3)
    write_checkpoint(tmp_path / "lf.pth", *nets(latent=12), args_of(), guide=guide)
    convert.main([str(tmp_path / "lf.pth"), str(tmp_path / "run"), *WORDS, LATENT])
    words = [f"run={tmp_path / 'run'}", f"runtime.runs={tmp_path / 'runs'}", "n=4", "steps=4", *PLAIN]
    guided = ["guidance.kind=cfg_then_autoguidance", f"guidance.guide={tmp_path / 'run-guide'}"]
    guided += ["guidance.scale.pixels=3", "shift.pixels_latent=0.575"]
    drawn = []
    for name, more in (("plain.png", []), ("guided.png", guided)):
        code, out, err = run("lf.sample", *words, *more, f"out={tmp_path / name}")
        assert (code, out, err) == (0, f"{tmp_path / name}\n", "")
        drawn.append(read_image(str(tmp_path / name)).float())
    assert drawn[0].std() > 1 and (drawn[0] - drawn[1]).abs().max() > 5


@pytest.mark.slow
def test_a_converted_run_is_evaluated(jit: Path, judged: Judged) -> None:
    convert.main([str(jit), str(jit.parent / "out"), *WORDS])
    words = [f"run={jit.parent / 'out'}", f"runtime.runs={judged(jit.parent / 'runs')}", "n=20", "steps=2", *PLAIN]
    rows = []
    for weights in ("ema", "ema2"):
        code, out, err = run("lf.evaluate", *words, f"weights={weights}")
        assert (code, err) == (0, "")
        rows.append(json.loads(out))
    assert rows[0]["weights"] == "ema" and rows[0]["fd"] > 0 and rows[0]["fd"] != rows[1]["fd"]


def test_converted_weights_share_no_memory_and_are_float32(tmp_path: Path) -> None:
    net = randomize(PublicNet(**SMALL))
    net.blocks.bfloat16()
    write_checkpoint(tmp_path / "jit.pth", net, net, net, args_of())
    convert.main([str(tmp_path / "jit.pth"), str(tmp_path / "out"), *WORDS])
    tensors = load_file(tmp_path / "out" / "checkpoint.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.float32}
    assert len(tensors) == 3 * (len(net.state_dict()) - 1)
    assert all(value.equal(tensors["raw." + key.partition(".")[2]]) for key, value in tensors.items())
