"""Encoders: the conformance class over all that are built in, and what each promises beside it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lf import data, encoders
from lf.core.errors import UserError
from lf.data import shapes, to_float
from lf.encoders.conformance import EncoderConformance
from lf.storage.cache import SHIPPED

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
    elsewhere = {"dinov2", "data2vec2", "mocov3", "timm", "hf"} | {"autoencoder", "vae"}  # in files of their own
    assert ours - elsewhere == {"pixels", "tiny"}


def test_pixels_are_area_means_laid_out_by_depth(tmp_path: Path) -> None:
    x = to_float(DATA.images[:2])
    latent = encoders.create("pixels", cells=4).load(DATA, 8, tmp_path)(x)
    assert latent.shape == (2, 48, 4, 4)
    for channel, i, j, row, column in [(0, 0, 0, 0, 0), (1, 2, 3, 1, 2), (2, 3, 1, 3, 0)]:
        top, left = 8 * row + 2 * i, 8 * column + 2 * j  # cell (i, j) of patch (row, column) is 2 × 2 pixels
        mean = (x[:, channel, top : top + 2, left : left + 2]).mean((1, 2))
        torch.testing.assert_close(latent[:, 16 * channel + 4 * i + j, row, column], mean)


def test_pixels_of_the_public_code_lie_between_0_and_1(tmp_path: Path) -> None:
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    ours, theirs = (encoders.create("pixels", unit=unit).load(DATA, 8, tmp_path)(x) for unit in (False, True))
    torch.testing.assert_close(theirs, (ours + 1) / 2)
    assert "unit" not in encoders.create("pixels").model_dump(), "a default leaves identities as they were"


def test_pixels_refuses_cells_that_do_not_divide_the_patch() -> None:
    with pytest.raises(UserError, match="pixels.cells=3"):
        encoders.create("pixels", cells=3).channels(8)


def test_tiny_is_trained_once_and_the_same_again_elsewhere(tmp_path: Path) -> None:
    x = to_float(DATA.images[:8])
    tiny = encoders.create("tiny", **TINY)
    here, there = (tiny.load(DATA, 8, tmp_path / place)(x) for place in ("here", "there"))
    assert here.equal(there)
    (file,) = (tmp_path / "here").glob("*.safetensors")
    written = file.stat().st_mtime_ns
    tiny.load(DATA, 8, tmp_path / "here")
    assert file.stat().st_mtime_ns == written


def test_tiny_is_trained_anew_for_another_recipe_patch_or_data_set_but_not_for_a_loss_weight(tmp_path: Path) -> None:
    def files_after(patch: int = 8, data: int = 64, **changed: float) -> int:
        encoders.create("tiny", **{**TINY, "steps": 1, **changed}).load(shapes.make(range(data)), patch, tmp_path)
        return len(list(tmp_path.glob("*.safetensors")))

    assert files_after() == 1 and files_after(loss_weight=0.5) == 1
    assert files_after(noise=0.1) == 2 and files_after(seed=1) == 3 and files_after(patch=16) == 4
    assert files_after(data=65) == 5


def test_tiny_leaves_the_global_random_state_of_training_alone(tmp_path: Path) -> None:
    tiny = encoders.create("tiny", **{**TINY, "steps": 1})
    tiny.load(DATA, 8, tmp_path)
    torch.manual_seed(5)
    tiny.load(DATA, 8, tmp_path / "fresh")
    after_training = torch.rand(1)
    torch.manual_seed(5)
    tiny.load(DATA, 8, tmp_path)
    assert torch.rand(1).equal(after_training)


def test_tiny_refuses_an_odd_patch() -> None:
    with pytest.raises(UserError, match="patch"):
        encoders.create("tiny", **TINY).channels(5)


def test_tiny_of_shapes_comes_with_the_code(tmp_path: Path) -> None:
    pretrained = replace(DATA, digest=data.digest("shapes", 32))
    encoders.create("tiny").load(pretrained, 8, tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    found, shipped = load_file(file), load_file(SHIPPED / file.name)
    assert found.keys() == shipped.keys() and all(found[name].equal(shipped[name]) for name in shipped), "not trained"
