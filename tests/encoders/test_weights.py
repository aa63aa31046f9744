"""Where weights are found, and that they are the right ones; what is missing or damaged is one line."""

import functools
import hashlib
import http.server
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from toy import refusal
from vits import DATA, PATCH, SMALL, X, hf_folder, small

from lf import encoders
from lf.core.errors import UserError
from lf.encoders import whiten


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
    with pytest.raises(UserError, match=rf"{name}.weights=.*: has SHA-256 {right}, expected {'0' * 64}"):
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
        ("mocov3", lambda file: torch.save({"state_dict": {}}, file), "not a MoCo-v3 checkpoint"),
        ("mocov3", lambda file: torch.save([1], file), "holds a list"),
        ("mocov3", _rewritten(_shorter), "another network: size mismatch"),
        ("data2vec2", _rewritten(lambda f: {"model": {"blocks.0.norm1.weight": torch.ones(3)}}), "not a data2vec 2.0"),
        ("data2vec2", lambda file: torch.save({"model": None}, file), "not a data2vec 2.0"),
        ("data2vec2", _rewritten(_no_blocks), "another network: Missing key.*blocks.2"),
        ("dinov2", _without("layernorm.weight"), "has no layernorm.weight"),
        ("dinov2", lambda folder: (folder / "config.json").unlink(), "no config of transformers"),
        ("dinov2", lambda folder: hf_folder(folder, transformers.ViTConfig, transformers.ViTModel), "holds a vit"),
        ("timm", _cut, "cannot be used on a grid of 4 × 4"),
        ("hf", _without("layernorm.weight"), "has no layernorm.weight"),
        ("hf", lambda folder: (folder / "preprocessor_config.json").unlink(), "no image_mean and image_std"),
        ("hf", lambda folder: (folder / "model.safetensors").unlink(), "cannot be used on a grid of 4 × 4"),
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
