"""Pretrained tokenizers: a small random ``AutoencoderKL``, saved by diffusers itself, against its own library."""

import json
import sys
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from toy import PLAIN, Judged, refusal, training

from lf import encoders, sample, train_tokenizer
from lf.core.errors import UserError
from lf.data import shapes, to_float
from lf.encoders import Codec
from lf.encoders.conformance import EncoderConformance
from lf.encoders.vae import VAE
from lf.model.denoiser import LatentForcing
from lf.runs import training_run
from lf.train import train

DATA = shapes.make(range(64), resolution=32)
X = to_float(DATA.images[:4])
BLOCKS: dict[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
    "block_out_channels": [8, 16], "norm_num_groups": 4, "latent_channels": 3, "scaling_factor": 0.25,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("vae")
    diffusers.AutoencoderKL(**BLOCKS).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def library(folder: Path) -> Any:
    return diffusers.AutoencoderKL.from_pretrained(folder, low_cpu_mem_usage=False).eval().requires_grad_(False)


def vae(folder: Path, **fields: Any) -> VAE:
    found = encoders.create("vae", weights=str(folder), **fields)
    assert isinstance(found, VAE)
    return found


class TestVAE(EncoderConformance):
    data = DATA

    @pytest.fixture(autouse=True, params=[("data", 8), ("config", 2)], ids=str)
    def _case(self, request: pytest.FixtureRequest, folder: Path) -> None:
        scale, self.patch = request.param
        self.encoder = vae(folder, scale=scale)


def test_scaled_by_the_data_its_latents_have_the_spread_of_pixels(folder: Path, library: Any, tmp_path: Path) -> None:
    encode = vae(folder).load(DATA, 8, tmp_path)
    assert isinstance(encode, Codec)
    x = to_float(DATA.images)
    z = library.encode(x).latent_dist.mean
    mean, std = z.mean((0, 2, 3), keepdim=True), z.std((0, 2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(encode(x), (z - mean) / std * 0.485, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(encode.decode(encode(X)), library.decode(z[:4]).sample.clamp(-1, 1), rtol=0, atol=1e-4)


def test_scaled_by_its_config_nothing_is_measured(folder: Path, library: Any, tmp_path: Path) -> None:
    encode = vae(folder, scale="config").load(DATA, 8, tmp_path)
    torch.testing.assert_close(encode(X), library.encode(X).latent_dist.mean * 0.25 * 0.485)
    assert not list(tmp_path.iterdir())


def test_latent_diffusion_through_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latent = f"latents={{name: vae, weights: {folder}}}"
    config = training(latent, "schedule=latent_only", "steps=3", f"runtime.runs={tmp_path}/runs")
    train(config)
    run = training_run(config)
    images, _ = LatentForcing.from_pretrained(run.folder).images(range(2))
    assert images.shape == (2, 3, 16, 16) and config.streams[1].patch == 2
    for file in config.runtime.cache.glob("whitening-vae-*"):
        file.unlink()
    words = [f"run={run.id}", *PLAIN, f"runtime.runs={tmp_path}/runs", f"out={tmp_path}/grid.png"]
    assert "whitening-vae-" in refusal(sample.main, words, capsys)


@pytest.mark.parametrize("harm", ["no such folder", "another model", "not json", "no weights", "a part is missing"])
def test_what_cannot_be_used_is_one_line(
    harm: str, library: Any, judged: Judged, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged(tmp_path / "runs")
    library.save_pretrained(tmp_path / "vae")
    config, weights = tmp_path / "vae" / "config.json", tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    if harm == "no such folder":
        config = config.rename(tmp_path / "elsewhere")
        weights.unlink()
        (tmp_path / "vae").rmdir()
    elif harm == "another model":
        config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "VQModel"}))
    elif harm == "not json":
        config.write_text("{")
    elif harm == "no weights":
        weights.unlink()
    else:
        deeper = {**BLOCKS, "layers_per_block": 2}
        config.write_text(json.dumps({**json.loads(config.read_text()), **deeper}))
    words = [f"tokenizer={{name: vae, weights: {tmp_path}/vae}}", *PLAIN, f"runtime.runs={tmp_path}/runs"]
    assert "vae.weights=" in refusal(train_tokenizer.main, [*words, "data=digits", "resolution=16", "patch=4"], capsys)


def test_a_patch_that_its_cells_do_not_divide_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="its cell size of 2 pixels must divide the patch size 5"):
        vae(folder).channels(5)


def test_without_diffusers_it_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"pip install 'lf\[vae\]'"):
        vae(folder).load(DATA, 8, tmp_path)
