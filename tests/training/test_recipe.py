"""The recipe before a training, and a training on shards from end to end, as a user goes about it."""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
import webdataset
from toy import PLAIN, refusal, run

from lf import train
from lf.config import Evaluation, Training
from lf.config.cli import config_over_preset
from lf.config.presets import PRESETS
from lf.core.parsing import parse
from lf.model.denoiser import LatentForcing
from lf.network import SIZES


@pytest.fixture(scope="module")
def shards(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 64 px made from the folder of images."""
    out = tmp_path_factory.mktemp("shards") / "prepared"
    code, _, err = run(
        "lf.data.prepare", str(store / "images"), str(out), "resolution=64", "shard_size=16", "workers=2"
    )
    assert code == 0, err
    return out


@pytest.mark.slow
def test_the_papers_model_is_rehearsed_on_shards_of_a_folder(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "prepared"
    code, _, err = run("lf.data.prepare", str(store / "images"), str(out), "resolution=256")
    assert code == 0, err
    words = ["preset=lf_l_imagenet256", f"data=shards:{out}", "--dry-run=500", f"runtime.runs={tmp_path / 'runs'}"]
    code, said, err = run("lf.train", *words, env=offline())
    assert code == 0, err
    assert max(map(len, said.partition("one step")[0].splitlines())) <= 80
    for row in (
        "parameters         464,389,600",
        "tokens             16² = 256",
        "FLOPs per image",
        "memory (estimate)",
    ):
        assert row in said, said  # 465,407,456 less the labels of 994 classes
    assert "60 images" in said and "at 500 images/s per GPU" in said
    hours = 100_080 * 1024 / 500 / 3600
    assert f"{hours:,.3g}" in said
    assert re.search(r"one step of 2 images on the CPU: loss \d+\.\d{4}", said)
    assert "dinov2.weights" in said and "used random latents" in said
    assert not any(tmp_path.glob("runs/training/*"))


def offline() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"}


@pytest.mark.slow
def test_a_training_reads_shards_with_workers_and_says_how_fast_it_is(shards: Path, tmp_path: Path) -> None:
    words = [
        f"data=shards:{shards}", "resolution=64", "network.patch=16", "latents=[{name: pixels, cells: 2}]",
        "schedule=cascaded", "steps=60", "batch=10", "flip=true", "network.depth=1", "network.width=32",
        "network.heads=2", "warmup=5", f"runtime.runs={tmp_path}",
    ]  # fmt: skip
    code, said, err = run("lf.train", *words, *PLAIN, "runtime.workers=2")
    assert code == 0, err
    assert re.search(r"step 60/60, loss \d\.\d+, \d+\.\d img/s, MFU \d+%, 00:00:00 left", said), said
    code, again, err = run("lf.train", *words, *PLAIN, "runtime.workers=0")
    assert code == 0 and again.splitlines()[-1] == said.splitlines()[-1], err  # done already, by the same name


@pytest.mark.slow
def test_a_damaged_image_is_named_and_skipped_up_to_the_limit(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store / "images", tmp_path / "images")
    with webdataset.TarWriter(str(tmp_path / "some.tar")) as sink:
        for number, file in enumerate(sorted((tmp_path / "images").rglob("*.png"))):
            content = file.read_bytes() if number != 7 else b"no image"
            sink.write({"__key__": f"{number:04}", "png": content, "cls": str(number // 10).encode()})
    words = [
        f"data=shards:{tmp_path / 'some.tar'}", "steps=12", "batch=10", "network.depth=1", "network.width=32",
        "network.heads=2", "warmup=1", f"runtime.runs={tmp_path / 'runs'}", *PLAIN,
    ]  # fmt: skip
    code, _, err = run("lf.train", *words)
    assert code == 2 and "limit_damaged=0" in err and "0007" in err and "Traceback" not in err
    code, said, err = run("lf.train", *words, "runtime.limit_damaged=1")
    assert code == 0 and "done:" in said and err.count("0007") == 1, err


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_config(name: str) -> None:
    config = config_over_preset([f"preset={name}", "data=shapes"], Training, "training", None)
    parse(Evaluation, PRESETS[name]["evaluation"]).path_for(config)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("resolution", "patch"), [(256, 16), (512, 32)])
def test_every_size_is_a_word(size: str, resolution: int, patch: int) -> None:
    words = [f"network.size={size}", f"resolution={resolution}", f"network.patch={patch}", "network.expert_width=0"]
    for preset in ("jit_l_imagenet256", "lf_l_imagenet256", "jit_repa_l_imagenet256"):
        more = ["network.repa_block=4"] if "repa" in preset else []
        config = config_over_preset([f"preset={preset}", "data=shapes", *words, *more], Training, "training", None)
        with torch.device("meta"):
            model = LatentForcing(config, 1000)
        assert {s.grid for s in model.streams} == {16}
        assert config.network.depth == SIZES[size]["depth"] and len(model.network.blocks) == config.network.depth


def test_a_wrong_size_or_rate_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'LM'" in refusal(train.main, ["network.size=LMM"], capsys)
    assert "--dry-run=fast" in refusal(train.main, ["--dry-run=fast"], capsys)
