"""`python -m lf.encoders.whiten` writes the statistics that an encoder takes."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from toy import refusal, run
from vits import small

from lf import data
from lf.data import to_float
from lf.encoders import whiten


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
        (["mocov3", "shapes", "n=5"], "out: must be given with n"),
        (["mocov3", "shapes", "out=a.pt"], "out=a.pt: must end in .safetensors"),
        (["mocov3", "shapes", "out={there}"], "exists and is not overwritten"),
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
