"""Public checkpoint files as a user converts them: what comes out, and what is refused."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from published import PublicNet, args_of, randomize, sincos, write_checkpoint
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.io import read_image
from toy import PLAIN, files, refusal, run

from lf import convert
from lf.convert import Architecture, config_of
from lf.denoiser import LatentForcing
from lf.errors import UserError
from lf.network import Network, NetworkConfig

SMALL = {
    "image": 16,
    "patch": 4,
    "width": 32,
    "depth": 3,
    "heads": 2,
    "bottleneck": 16,
    "classes": 10,
    "class_block": 1,
}
WORDS = ["data=digits", "network.class_token_block=1"]
LATENT = "latents=[{name: pixels, cells: 2}]"


def nets(**parts: Any) -> list[PublicNet]:
    """Raw weights and two averages, all different."""
    return [randomize(PublicNet(**SMALL | parts), seed) for seed in range(3)]


@pytest.fixture
def jit(tmp_path: Path) -> Path:
    """A small JiT's file."""
    write_checkpoint(tmp_path / "jit.pth", *nets(), args_of())
    return tmp_path / "jit.pth"


def refused(file: Path, capsys: pytest.CaptureFixture[str], *words: str, out: str = "out") -> str:
    """The line with which a conversion is refused; fails if it leaves anything behind."""
    before = files(file.parent)
    said = refusal(convert.main, [str(file), str(file.parent / out), *words], capsys)
    assert files(file.parent) == before
    return said


# --- what comes out


def check(folder: Path, public: list[PublicNet]) -> None:
    """The folder's raw weights and averages predict what the public networks do."""
    for weights, net in zip(("raw", "ema", "ema2"), public, strict=True):
        model = LatentForcing.from_pretrained(folder, weights)
        z = [torch.randn(2, *stream.shape) for stream in model.streams]
        t, y = torch.rand(2, len(z)), torch.tensor([3, model.classes])
        with torch.no_grad():
            expected, _ = net(z, list(t.T), y)
            for a, b in zip(model.network(z, t, y).x, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_a_file_of_jit_as_a_user_converts_it(tmp_path: Path) -> None:
    public = nets()
    args = args_of(P_mean=-0.6, noise_scale=2.0, ema_decay2=0.9996, lr=3e-4, batch_size=64, world_size=2, t_eps=0.04)
    write_checkpoint(tmp_path / "jit.pth", *public, args, epoch=6)
    code, out, err = run("lf.convert", str(tmp_path / "jit.pth"), str(tmp_path / "deep" / "run"), *WORDS)
    assert (code, err) == (0, "")
    assert out.splitlines() == ["not used: optimizer", f"{tmp_path / 'deep' / 'run'}: pixels, 3 blocks of 32, 7 steps"]
    assert sorted(files(tmp_path / "deep")) == ["run/checkpoint.safetensors", "run/config.json"]
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
    assert "out: exists already and is not written over" in refused(jit, capsys, *WORDS)


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
def test_a_converted_run_is_evaluated(jit: Path) -> None:
    convert.main([str(jit), str(jit.parent / "out"), *WORDS])
    words = [f"run={jit.parent / 'out'}", f"runtime.runs={jit.parent / 'runs'}", "n=20", "steps=2", *PLAIN]
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


# --- what is refused


class Executed:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("old_format", [False, True])
def test_a_file_that_would_run_code_is_refused_and_does_not_run_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old_format: bool
) -> None:
    content = {key: {} for key in ("model", "model_ema1", "model_ema2")} | {"args": Executed(tmp_path / "executed")}
    torch.save(content, tmp_path / "bad.pth", _use_new_zipfile_serialization=not old_format)
    said = refused(tmp_path / "bad.pth", capsys)
    assert "mkdir, which is not loaded: it could run anything" in said
    assert not (tmp_path / "executed").exists()
    torch.load(tmp_path / "bad.pth", weights_only=False)
    assert (tmp_path / "executed").exists(), "the file is harmless, the test shows nothing"


def test_files_in_the_old_format_are_read(tmp_path: Path) -> None:
    net = nets()[0]
    content = {
        key: {f"net.{k}": v for k, v in net.state_dict().items()} for key in ("model", "model_ema1", "model_ema2")
    }
    torch.save(
        content | {"args": argparse.Namespace(lr=1.0)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False
    )
    convert.main([str(tmp_path / "old.pth"), str(tmp_path / "out"), *WORDS])
    check(tmp_path / "out", [net] * 3)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: whole[: len(whole) // 2], id="cut short"),
        pytest.param(lambda whole: b"", id="empty"),
        pytest.param(lambda whole: b"<!doctype html>" * 50, id="a web page"),
        pytest.param(lambda whole: whole[:2000] + bytes(2000) + whole[4000:], id="a hole"),
    ],
)
def test_a_damaged_file_is_one_line(jit: Path, capsys: pytest.CaptureFixture[str], damage: Any) -> None:
    jit.write_bytes(damage(jit.read_bytes()))
    assert f"cannot read {jit}: " in refused(jit, capsys, *WORDS)


def test_a_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such file" in refused(tmp_path / "no.pth", capsys)


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, {"state_dict": {"w": torch.ones(1)}}], ids=str)
def test_another_kind_of_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any) -> None:
    torch.save(content, tmp_path / "other.pth")
    assert "is not a checkpoint of JiT or Latent Forcing: it has no 'model" in refused(tmp_path / "other.pth", capsys)


def changed(jit: Path, key: str, value: Any) -> None:
    """The file with one entry of its first state dict set, or taken out."""
    content = torch.load(jit, weights_only=False)
    content["model"].pop(key, None)
    if value is not None:
        content["model"][key] = value
    torch.save(content, jit)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("net.blocks.1.attn.gate.weight", torch.ones(1), "too many 'raw.blocks.1.attn.gate.weight'"),
        ("net.register_tokens", torch.ones(1), "jit.pth, model, net.*: unknown tensors: 'register_tokens'"),
        ("net.blocks.1.mlp.w3.bias", None, "missing 'raw.blocks.1.mlp.w3.bias'"),
        ("net.y_embedder.embedding_table.weight", None, "it has no 'y_embedder.embedding_table.weight'"),
        (
            "net.blocks.1.mlp.w3.bias",
            torch.ones(5),
            "raw.blocks.1.mlp.w3.bias: (5,) in the file, (32,) in this config's network",
        ),
        ("net.pos_embed", torch.ones(1, 16, 32), "pos_embed: is not the fixed 2-D sines and cosines"),
        ("net.pos_embed", torch.ones(16, 32), "pos_embed: has 2 dimensions instead of 3"),
        ("net.final_layer.linear.bias", "text", "unknown tensors: 'final_layer.linear.bias'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_tensors_that_are_not_the_networks_are_named(
    jit: Path, capsys: pytest.CaptureFixture[str], key: str, value: Tensor | None, said: str
) -> None:
    changed(jit, key, value)
    assert said in refused(jit, capsys, *WORDS)


def test_many_unknown_tensors_are_counted(jit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        changed(jit, f"net.extra{number}", torch.ones(1))
    assert "unknown tensors: 'extra0', 'extra1', 'extra2' and 2 more" in refused(jit, capsys, *WORDS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "network.class_token_block=N"),
        ([*WORDS, "network.depth=2"], "too many 'raw.blocks.2."),
        ([*WORDS, "network.widht=32"], "widht: unknown key"),
        ([*WORDS, "stepz=3"], "stepz: unknown key"),
        (["network=3"], "config.network=3"),
        ([*WORDS, "latents=[pixels]"], "missing 'raw.embed.1."),
        (["nonsense"], "'nonsense': expected key=value"),
    ],
    ids=str,
)
def test_wrong_words_are_one_line(jit: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert said in refused(jit, capsys, *words)


def test_the_folder_may_not_be_forgotten(jit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], [str(jit)], [str(jit), "data=digits"]):
        assert "expected FILE.pth FOLDER" in refusal(convert.main, words, capsys)


def test_averages_of_another_size_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, ema, other = *nets()[:2], nets(depth=2)[0]
    write_checkpoint(tmp_path / "mixed.pth", raw, ema, other, args_of())
    assert "too many 'raw.blocks.2." in refused(tmp_path / "mixed.pth", capsys, *WORDS)


def test_a_folder_that_cannot_be_made_is_one_line(jit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "jit.pth/out: " in refused(jit, capsys, *WORDS, out="jit.pth/out")


def test_an_encoder_that_the_channels_do_not_tell_is_asked_for() -> None:
    found = Architecture({"depth": 3, "width": 32, "class_tokens": 0}, 16, 96, 10)
    with pytest.raises(UserError, match=r"latents of 96 channels are of no known encoder: name it, latents=\[NAME\]"):
        config_of(found, {}, {})


def test_the_arguments_tell_mocov3_from_dinov2() -> None:
    found = Architecture({"depth": 12, "width": 384, "heads": 6, "patch": 16, "class_token_block": 4}, 256, 768, 10)
    found.network["class_tokens"] = 32
    for latent_model, name in (("dino", "dinov2"), ("mocov3", "mocov3")):
        recipe = convert.recipe_of({"args": args_of(latent_model=latent_model)}, latent=True)
        assert config_of(found, recipe, {}).streams[1].name == name


def test_a_failing_disk_leaves_nothing(jit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(convert, "replace", full)  # the config, written last
    with pytest.raises(OSError, match="no space"):
        convert.main([str(jit), str(jit.parent / "out"), *WORDS])
    assert os.listdir(jit.parent) == ["jit.pth"]


def test_help_says_what_it_takes() -> None:
    code, out, err = run("lf.convert", "--help")
    assert (code, err) == (0, "")
    assert "FILE.pth FOLDER" in out and "network.class_token_block" in out
