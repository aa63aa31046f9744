"""Nothing that is not a number is sampled or scored: the error names the weights, or the image."""

from pathlib import Path
from typing import Any

import pytest
import torch
from toy import LATENT, PLAIN, Judged, refusal, training

from lf import LatentForcing, evaluate, sample
from lf.config import Sampling
from lf.core.errors import UserError

DRAWN = ["guidance.kind=none", "steps=2", *PLAIN]


def model(weight: float) -> LatentForcing:
    network = LatentForcing(training("data=digits", LATENT, "schedule=cascaded"), classes=10)
    with torch.no_grad():
        network.network.label.weight[3, 5] = weight
    return network


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
@pytest.mark.parametrize("command", [sample, evaluate], ids=["sample", "evaluate"])
def test_weights_that_are_not_finite_are_refused(
    command: Any, weight: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    judged: Judged,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    judged(tmp_path / "runs")
    model(weight).save_pretrained(tmp_path / "hub")
    said = refusal(command.main, [f"run={tmp_path}/hub", "n=2", *DRAWN], capsys)
    assert "hub/checkpoint.safetensors: its weights 'ema' are not finite, such as label.weight" in said
    assert not (tmp_path / "samples.png").exists()


def test_an_image_that_is_not_finite_is_named() -> None:
    network = model(0.0)
    with torch.no_grad():
        network.network.label.weight[3] = torch.tensor(3e38)  # finite, and too much
        for p in network.network.parameters():
            if not p.any():
                torch.nn.init.normal_(p)
    with pytest.raises(UserError, match="this network: image 13 is not finite; try"):
        network.images(range(10, 20), Sampling(steps=2, solver="euler"), batch=2)
    network.images(range(10, 13), Sampling(steps=2, solver="euler"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reference.judge=digits.npz"], "reference.judge: the judge compares with the data that it was trained on"),
        (["reference=digits.npz"], "reference.judge: the judge compares with the data that it was trained on"),
        (["features=judgee"], "did you mean 'judge'?"),
        (["features=inception-v3"], "did you mean 'inception-v3-compat'?"),
    ],
    ids=str,
)
def test_what_a_score_compares_with_is_what_was_asked(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model(0.0).save_pretrained(tmp_path / "hub")
    (tmp_path / "digits.npz").touch()
    assert said in refusal(evaluate.main, [f"run={tmp_path}/hub", "n=2", *DRAWN, *words], capsys)
