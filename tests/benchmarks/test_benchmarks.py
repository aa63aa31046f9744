"""What is left out of the work changes no image, and the benchmarks run: the figures themselves are no matter here."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from toy import refusal

from benchmarks import __main__ as benchmarks
from benchmarks import baseline, core
from benchmarks.sample import needed
from benchmarks.train import Train
from lf.config import Sampling, Training
from lf.core.parsing import parse
from lf.model.denoiser import LatentForcing

SCALE = {"scale": {"pixels": 1.5, "tiny": 2.9}, "interval": {"tiny": (0.06, 1.0)}}
GUIDANCE = {
    "off": {},
    "cfg": {"kind": "cfg", **SCALE},
    "autoguidance": {"kind": "autoguidance", "guide": "weak", **SCALE},
    "both": {"kind": "cfg_then_autoguidance", "guide": "weak", **SCALE},
}


def network(width: int) -> LatentForcing:
    """Two streams, experts, weights everywhere."""
    config = parse(Training, {
        "latents": "tiny", "schedule": "cascaded", "resolution": 16, "steps": 1, "batch": 1, "lr": 1,
        "network": {"depth": 2, "width": width, "heads": 2, "bottleneck": 8, "patch": 4, "class_tokens": 2,
                    "class_token_block": 1, "expert_width": 2 * width, "expert_depth": 1},
    })  # fmt: skip
    model = LatentForcing(config, classes=4)
    for p in model.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    nn.init.normal_(model.network.label.weight)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("solver", ["heun", "heun_per_stream"])
@pytest.mark.parametrize("kind", GUIDANCE)
def test_leaving_work_out_changes_no_image(kind: str, solver: str) -> None:
    model, guide = network(32), network(16)
    sampling = parse(Sampling, {"steps": 8, "solver": solver, "guidance": GUIDANCE[kind]})
    ours = torch.cat([*model.samples(range(6), sampling, guide=guide, batch=4)])
    plain = baseline.images(model, guide, sampling, range(6))
    assert ours.std() > 0.1 and (ours - plain).abs().max() < 1e-4
    unguided = torch.cat([*model.samples(range(6), parse(Sampling, {"steps": 8, "solver": solver}))])
    assert ((ours - unguided).abs().max() > 0.01) == (kind != "off")

    few = core.counted(lambda: [*model.samples(range(1), sampling, guide=guide)])
    all_of_it = core.counted(lambda: baseline.images(model, guide, sampling, range(1)))
    least = needed(model, guide, sampling)
    assert 0.9 * least < few <= least and all_of_it > 1.3 * least  # a stream that stands still is embedded once


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(core, "RESULTS", tmp_path)
    return tmp_path


def rows(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


TINY = {
    "sample": (["resolution=32", "steps=2", "cases=unguided"], {"baseline", "lf"}),
    "train": (["cases=experts", "steps=1", "batch=4", "expert_width=32", "latent={name: pixels, cells: 2}",
               "data=digits", "profile=true"], {"baseline", "lf"}),
    "data": (["n=8", "resolution=32", "batch=4"], {"originals", "png shards", "jpg shards"}),
}  # fmt: skip


@pytest.mark.parametrize("command", TINY)
def test_variants_are_timed_and_their_rows_kept(command: str, kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, variants = TINY[command]
    benchmarks.main([command, *words, "rounds=1", "runtime.compile=false"])
    found = [row for row in rows(kept / f"{command}.jsonl") if "ratio" in row]
    assert {row["variant"] for row in found} == variants and found[0]["ratio"] == 1
    assert all(row["seconds"] > 0 and row["machine"] and row["command"] and row["revision"] for row in found)
    out = capsys.readouterr().out
    assert all(variant in out for variant in variants)
    assert ("aten::mm" in out.partition("where the steps of lf go")[2]) == (command == "train")


def test_a_training_of_another_preset_can_be_timed(capsys: pytest.CaptureFixture[str]) -> None:
    assert core.config_of(["preset=lf_l_imagenet256", "batch=2"], Train, None).preset == "lf_l_imagenet256"
    said = refusal(lambda _: benchmarks.main(["train", "preset=lf_l_imagenet"]), [], capsys)
    assert "preset=lf_l_imagenet: unknown" in said and "lf_l_imagenet256" in said


@pytest.mark.parametrize(
    ("words", "named"), [("sampel", "sample"), ("sample cases=unguide", "unguided"), ("sample setps=2", "steps")]
)
def test_a_benchmark_that_is_not_there_is_refused(words: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert named in refusal(lambda _: benchmarks.main(words.split()), [], capsys)
