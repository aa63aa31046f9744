"""Encoders: the conformance class over all that are built in, and what each promises beside it."""

from pathlib import Path

import pytest
import torch

from lf import encoders
from lf.data import shapes, to_float
from lf.encoders.conformance import EncoderConformance
from lf.errors import UserError

DATA = shapes.make(range(256), resolution=32)
TINY = {"steps": 5, "width": 16, "batch": 32}


class TestPixels(EncoderConformance):
    data = DATA

    @pytest.fixture(autouse=True, params=[(4, 4), (4, 8), (2, 8), (1, 16)], ids=str)
    def _case(self, request: pytest.FixtureRequest) -> None:
        cells, self.patch = request.param
        self.encoder = encoders.create("pixels", cells=cells)


class TestTiny(EncoderConformance):
    data = DATA

    @pytest.fixture(autouse=True, params=[(16, 8), (5, 4), (3, 16)], ids=str)
    def _case(self, request: pytest.FixtureRequest) -> None:
        dim, self.patch = request.param
        self.encoder = encoders.create("tiny", dim=dim, **TINY)


def test_the_encoders_of_this_package_are_all_tested_here() -> None:
    ours = {name for name in encoders.names() if type(encoders.create(name)).__module__.startswith("lf.")}
    assert ours - {"dinov2", "data2vec2", "mocov3", "timm", "hf"} == {"pixels", "tiny"}  # those: test_pretrained.py


def test_tiny_refuses_an_odd_patch() -> None:
    with pytest.raises(UserError, match="patch"):
        encoders.create("tiny", **TINY).channels(5)
