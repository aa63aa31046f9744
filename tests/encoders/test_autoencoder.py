"""Tokenizers that are trained here: what they keep, what they are asked for, and latent diffusion through them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from packed import packed
from torch import Tensor
from toy import PLAIN, refusal, training

from lf import data, encoders, evaluate, metrics, sample, train_tokenizer
from lf.config import Training
from lf.core.errors import UserError
from lf.data import Batch, Images, shapes, to_float
from lf.encoders import autoencoder
from lf.encoders.autoencoder import Autoencoder, Net
from lf.encoders.conformance import EncoderConformance
from lf.metrics.reconstruction import psnr, reconstructed
from lf.model.denoiser import LatentForcing
from lf.runs import training_run
from lf.train import train
from lf.training.dry_run import dry_run

DATA = shapes.make(range(64), resolution=32)
SMALL: dict[str, Any] = {"width": 16, "batch": 32}
TINY = {"name": "tiny", "steps": 20, "width": 16, "batch": 32}
CODE = "{name: autoencoder, dim: 4, stride: 2, width: 16, batch: 32, steps: 100, lr: 5e-3}"


def made(**fields: Any) -> Autoencoder:
    encoder = encoders.create("autoencoder", **{**SMALL, **fields})
    assert isinstance(encoder, Autoencoder)
    return encoder


class TestAutoencoder(EncoderConformance):
    data = DATA
    patch = 8

    @pytest.fixture(
        autouse=True,
        params=[{"stride": 8, "dim": 3}, {"stride": 2, "kl": 1e-3}, {"stride": 4, "align": TINY}],
        ids=["plain", "kl", "aligned"],
    )
    def _case(self, request: pytest.FixtureRequest) -> None:
        self.encoder = made(steps=3, **request.param)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Images, Images]:
    """Train and test images of 16 px."""
    cache = tmp_path_factory.mktemp("digits")
    return data.load("digits", 16, "train", cache), data.load("digits", 16, "test", cache)


def fitted(train_on: Images, cache: Path, patch: int = 4, **fields: Any) -> Net:
    net = made(**{"steps": 120, "stride": 2, "dim": 4, "lr": 5e-3, **fields}).load(train_on, patch, cache)
    assert isinstance(net, Net)
    return net


def test_what_it_decodes_is_closer_than_the_mean_colour_and_more_so_at_a_higher_rate(
    digits: tuple[Images, Images], tmp_path: Path
) -> None:
    seen, unseen = digits
    flat = unseen.images.float().mean((2, 3), keepdim=True).round().to(torch.uint8).expand_as(unseen.images)
    coarse, fine = (fitted(seen, tmp_path, dim=dim) for dim in (1, 4))
    guesses = (flat, *(reconstructed(net, unseen.images) for net in (coarse, fine)))
    scores = [psnr(unseen.images, guess).mean() for guess in guesses]
    assert scores[0] + 3 < scores[1] < scores[2] - 1


def test_its_latents_have_the_spread_of_pixels(digits: tuple[Images, Images], tmp_path: Path) -> None:
    latents = fitted(digits[0], tmp_path, steps=20)(to_float(digits[0].images))
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.full((4,), 0.485), rtol=0.01, atol=0)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=0.01)


def test_a_divergence_lowers_the_rate(digits: tuple[Images, Images], tmp_path: Path) -> None:
    x, draw = to_float(digits[1].images), torch.Generator().manual_seed(0)
    rates = [fitted(digits[0], tmp_path, kl=kl).code(x, draw)[1].mean() for kl in (1e-4, 1e-1)]
    assert 0 < rates[1] < rates[0] / 2
    assert fitted(digits[0], tmp_path, steps=20).code(x, draw)[1].eq(0).all()


def test_an_aligned_code_says_more_of_the_encoder_that_it_is_aligned_to(
    digits: tuple[Images, Images], tmp_path: Path
) -> None:
    teacher = encoders.create(**{**TINY, "steps": 200})
    target = teacher.load(digits[0], 4, tmp_path)(to_float(digits[1].images))

    def told(align: dict[str, Any] | None) -> float:
        """Cosine between the teacher's tokens and the best linear map from the code's, on images not trained on."""
        net = fitted(digits[0], tmp_path, dim=2, align=align, align_weight=1.0)
        code = torch.nn.functional.pixel_unshuffle(net(to_float(digits[1].images)), 2)
        rows, wanted = code.transpose(0, 1).flatten(1).T, target.transpose(0, 1).flatten(1).T
        rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
        found = rows @ torch.linalg.lstsq(rows, wanted).solution
        return torch.cosine_similarity(found, wanted, 1).mean().item()

    assert told({**TINY, "steps": 200}) > told(None) + 0.03


class Dies(Images):
    """Images that can be read so many times."""

    left = 30

    def read(self, rows: Sequence[int] | Tensor, flip: Tensor | None = None) -> Batch:
        type(self).left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().read(rows, flip)


def test_the_same_recipe_gives_the_same_weights_even_if_its_training_died_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoencoder, "SAVE_EVERY", -1.0)
    encoder = made(steps=40, kl=1e-3, align=TINY)
    whole = encoder.load(DATA, 8, tmp_path / "here").state_dict()
    encoders.create(**TINY).load(DATA, 8, tmp_path / "there")
    with pytest.raises(KeyboardInterrupt):
        encoder.load(Dies(*(getattr(DATA, name) for name in DATA.__dataclass_fields__)), 8, tmp_path / "there")
    (progress,) = (tmp_path / "there").glob("autoencoder-*/checkpoint.safetensors")
    again = encoder.load(DATA, 8, tmp_path / "there").state_dict()
    assert not progress.exists() and again.keys() == whole.keys()
    assert all(again[name].equal(whole[name]) for name in whole)


def test_it_is_trained_anew_for_another_recipe_or_data_set_but_not_for_what_it_does_not_depend_on(
    tmp_path: Path,
) -> None:
    def files(patch: int = 8, data: str = "a", **fields: Any) -> Path:
        return made(**fields).file(data, patch, tmp_path)

    aligned = {**TINY, "loss_weight": 0.5}
    assert files() == files(loss_weight=0.5) == files(patch=16)
    assert files(align=TINY) == files(align=aligned) != files(align=TINY, patch=16)
    assert len({files(), files(data="b"), files(kl=1e-3), files(seed=1), files(align=TINY)}) == 5


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="stride: 3 is not a power of two"):
        made(stride=3)
    with pytest.raises(UserError, match=r"autoencoder.stride=4: must divide the patch size 6"):
        made(stride=4).channels(6)
    with pytest.raises(UserError, match=r"autoencoder.align=autoencoder"):
        made(align={"name": "autoencoder", "stride": 2}).channels(8)
    with pytest.raises(UserError, match=r"repa=autoencoder"):
        training("repa={name: autoencoder, stride: 2}", "network.repa_block=0", "network.repa_width=4")


# --- latent diffusion


@pytest.fixture(scope="module", autouse=True)
def quick_judge() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(metrics.RECIPE, "steps", 30)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Latent diffusion on digits, far enough to look like ink on a ground."""
    runs = tmp_path_factory.mktemp("runs")
    config = training(f"latents={CODE}", "schedule=latent_only", "batch=32", "steps=100", f"runtime.runs={runs}")
    train(config)
    return config


def words_of(trained: Training, *words: str) -> list[str]:
    return [f"run={training_run(trained).id}", "steps=4", *PLAIN, f"runtime.runs={trained.runtime.runs}", *words]


def test_it_has_one_token_a_patch_of_finer_cells(trained: Training) -> None:
    pixels, latent = trained.streams
    assert latent.shape == (4, 8, 8) and latent.patch == 2 and latent.grid == pixels.grid == 4


def test_images_are_the_decoded_latent(trained: Training, digits: tuple[Images, Images]) -> None:
    model = LatentForcing.from_pretrained(training_run(trained).folder)
    images, _ = model.images(range(64))
    encoder = trained.latents[0]
    codec = encoder.codec(digits[0].digest, 4, trained.runtime.cache)
    assert images.dtype == torch.uint8 and images.shape == (64, 3, 16, 16)
    # What a decoder makes is near the images that it can make; pixels left as noise are not.
    noise = (model.noise(range(64), 0)[0] * 127.5 + 127.5).clamp(0, 255).round().to(torch.uint8)
    assert psnr(images, reconstructed(codec, images)).mean() > psnr(noise, reconstructed(codec, noise)).mean() + 5


def test_a_row_says_what_decoding_alone_costs(trained: Training, capsys: pytest.CaptureFixture[str]) -> None:
    words = words_of(trained, "n=64")
    evaluate.main(words)
    row = json.loads(capsys.readouterr().out)
    assert row["reconstructed_n"] == 64 and row["reconstructed_of"] == "test"
    assert 10 < row["psnr"] < 60 and row["real_fd"] < row["rfd"] < row["fd"]
    before = {file: file.stat().st_mtime_ns for file in trained.runtime.cache.iterdir()}
    evaluate.main([*words, "seed=1"])  # another row
    again = json.loads(capsys.readouterr().out)
    assert again["fd"] != row["fd"] and (again["psnr"], again["rfd"]) == (row["psnr"], row["rfd"])
    assert {file: file.stat().st_mtime_ns for file in trained.runtime.cache.iterdir()} == before


def test_the_command_scores_the_same_tokenizer_and_trains_none_twice(
    trained: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in trained.runtime.cache.glob("autoencoder-*")}
    own = [f"tokenizer={CODE}", "data=digits", "resolution=16", "patch=4", "n=64"]
    train_tokenizer.main([*own, *PLAIN, f"runtime.runs={trained.runtime.runs}"])
    row = json.loads(capsys.readouterr().out)
    assert row["values"] == 4 * 8 * 8 and row["reconstructed_n"] == 64 and row["judging"]["judge"]["n"] == 64
    assert {file: file.stat().st_mtime_ns for file in trained.runtime.cache.glob("autoencoder-*")} == before
    assert (Path(trained.runtime.runs) / "tokenizer" / row["id"] / "reconstructions.png").exists()
    evaluate.main(words_of(trained, "n=64"))
    assert json.loads(capsys.readouterr().out)["rfd"] == row["rfd"]


def test_shards_are_read_batch_by_batch_and_scored_on_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tars = packed(tmp_path / "tars", (40, 30))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code = "tokenizer={name: autoencoder, stride: 2, width: 8, steps: 5, batch: 16}"
    words = [code, f"data=shards:{tars}", "resolution=8", "patch=4", "n=50", "features=judge"]
    train_tokenizer.main([*words, *PLAIN, f"runtime.runs={tmp_path}/runs"])
    row = json.loads(capsys.readouterr().out)
    assert row["reconstructed_of"] == "train" and row["reconstructed_n"] == 50 and row["psnr"] > 5
    assert not [*Path().iterdir()], "all is in the run store that was named"


def test_a_rehearsal_trains_no_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dry_run(training("latents=autoencoder", "network.patch=4", "schedule=latent_only", f"runtime.runs={tmp_path}"))
    said = capsys.readouterr().out
    assert "autoencoder is trained on the data at first use; used random latents" in said and "loss" in said


def test_without_a_decoder_sampling_is_refused(
    trained: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path(trained.runtime.runs)
    blind = training("latents={name: pixels, cells: 2}", "schedule=latent_only", "steps=1", f"runtime.runs={place}")
    train(blind)
    out = f"out={tmp_path}/grid.png"
    assert "no latent of this network has a decoder" in refusal(sample.main, words_of(blind, out), capsys)

    elsewhere = tmp_path / "elsewhere" / "training" / "copy"
    shutil.copytree(training_run(trained).folder, elsewhere)
    said = refusal(sample.main, [*words_of(trained, out)[1:], f"run={elsewhere}"], capsys)
    assert f"{tmp_path}/elsewhere/cache/autoencoder-" in said and "is missing" in said
    shutil.copytree(trained.runtime.cache, tmp_path / "elsewhere" / "cache")
    sample.main([*words_of(trained, out)[1:], f"run={elsewhere}"])

    LatentForcing.from_pretrained(elsewhere).save_pretrained(tmp_path / "saved")
    with pytest.raises(UserError, match="its decoder is in the training's run store"):
        LatentForcing.from_pretrained(tmp_path / "saved").images(range(2))

    refused = refusal(train_tokenizer.main, ["tokenizer=tiny", "data=digits", "resolution=16", "patch=4"], capsys)
    assert "tokenizer=tiny: has no decoder" in refused
