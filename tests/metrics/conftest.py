"""Extractors with random weights, in files as torch-fidelity takes them; one thread."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_limits
from torch import nn
from torch_fidelity.feature_extractor_clip import CLIPVisual

from benchmarks.evaluate import random_inception
from lf.metrics import CLIP, INCEPTION, Extractor


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """NumPy's eigenvalues take many times longer where two threads share a busy core."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP (width 64, one layer, 16 features) in the format of the published files."""
    file = tmp_path_factory.mktemp("clip") / "clip.pt"
    torch.manual_seed(1)
    whole = nn.Module()
    whole.visual = CLIPVisual(16, 32, 1, 64, 8).visual
    whole.text_projection = nn.Parameter(torch.zeros(4, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and still what CLIP is published in
        torch.jit.save(torch.jit.script(whole), file)
    return file


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """InceptionV3 with random weights that keep the variance, in the format of the published file."""
    torch.manual_seed(2)
    return random_inception(tmp_path_factory.mktemp("inception") / "inception.pth")


@pytest.fixture(scope="module")
def clip(clip_file: Path) -> Extractor:
    return Extractor(CLIP, clip_file)


@pytest.fixture(scope="module")
def inception(inception_file: Path) -> Extractor:
    return Extractor(INCEPTION, inception_file)
