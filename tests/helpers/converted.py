"""Checkpoint files in the public layout, small, for tests of the conversion."""

from pathlib import Path
from typing import Any

import pytest
import torch
from published import PublicNet, randomize
from toy import files, refusal

from lf import convert
from lf.model.denoiser import LatentForcing

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


def refused(file: Path, capsys: pytest.CaptureFixture[str], *words: str, out: str = "out") -> str:
    """The line with which a conversion is refused; fails if it leaves anything behind."""
    before = files(file.parent)
    said = refusal(convert.main, [str(file), str(file.parent / out), *words], capsys)
    assert files(file.parent) == before
    return said


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
