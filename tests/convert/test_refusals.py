"""What the conversion refuses, in one line: code in files, damage, other networks, wrong words."""

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from converted import WORDS, check, nets, refused
from published_files import args_of, write_checkpoint
from torch import Tensor
from toy import refusal, run

from lf import convert
from lf.convert import Architecture, config_of
from lf.core.errors import UserError


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
    assert "mkdir, which is not loaded because it could run code" in said
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
        ("net.blocks.1.attn.gate.weight", torch.ones(1), "unexpected 'raw.blocks.1.attn.gate.weight'"),
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
        ([*WORDS, "network.depth=2"], "unexpected 'raw.blocks.2."),
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
        assert "FILE.pth FOLDER" in refusal(convert.main, words, capsys)


def test_averages_of_another_size_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, ema, other = *nets()[:2], nets(depth=2)[0]
    write_checkpoint(tmp_path / "mixed.pth", raw, ema, other, args_of())
    assert "unexpected 'raw.blocks.2." in refused(tmp_path / "mixed.pth", capsys, *WORDS)


def test_a_folder_that_cannot_be_made_is_one_line(jit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "jit.pth/out: " in refused(jit, capsys, *WORDS, out="jit.pth/out")


def test_an_encoder_that_the_channels_do_not_tell_is_asked_for() -> None:
    found = Architecture({"depth": 3, "width": 32, "class_tokens": 0}, 16, 96, 10)
    with pytest.raises(UserError, match=r"latents of 96 channels: unknown encoder; name it with latents=\[NAME\]"):
        config_of(found, {}, {})


def test_the_arguments_tell_mocov3_from_dinov2() -> None:
    found = Architecture({"depth": 12, "width": 384, "heads": 6, "patch": 16, "class_token_block": 4}, 256, 768, 10)
    found.network["class_tokens"] = 32
    for latent_model, name in (("dino", "dinov2"), ("mocov3", "mocov3")):
        recipe = convert.recipe_of(
            {"args": vars(args_of(latent_model=latent_model)), "epoch": 0, "steps": 1}, latent=True
        )
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
