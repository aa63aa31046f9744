"""Cached latents: those that the encoder gives, of each image and its mirror image, for shards and in memory."""

import shlex
from pathlib import Path
from typing import Literal

import pytest
import torch
from packed import packed
from torch import Tensor, nn
from toy import files, refusal, run

from lf import data, encoders
from lf.core.errors import UserError
from lf.data import Dataset, Shards, tars, to_float
from lf.data.loader import batches
from lf.encoders import Encoder, cache
from lf.encoders.cache import Caching, attach, folder_of

CPU = torch.device("cpu")
PATCH = 4
CONFIG = Caching(patch=PATCH, resolution=8, batch=2, workers=0)
PIXELS, COARSE = encoders.create("pixels", cells=2), encoders.create("pixels", cells=1)


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    opened = data.open(f"shards:{packed(tmp_path, [3, 1, 4])}", 8, tmp_path / "cache")
    assert isinstance(opened, Shards)
    return opened


def encoded(source: Dataset, encoder: Encoder, flip: Tensor, rows: range) -> Tensor:
    """Latents image by image."""
    encode = encoder.load(source, PATCH, Path())
    sides = zip(rows, flip.split(1), strict=True)
    return torch.cat([encode(to_float(source.read([row], side).images)) for row, side in sides])


def test_shards_give_the_cached_latents_of_both_sides(shards: Shards, tmp_path: Path) -> None:
    for encoder in (PIXELS, COARSE):
        assert cache.write(shards, encoder, CONFIG, CPU)
    both, online = attach(shards, [COARSE, PIXELS], PATCH, tmp_path, flip=True, mode="cached")
    assert online is None
    flip = torch.tensor([True, False, False, True, True, False, True, False])
    read = both.read(range(8), flip)
    assert [latent.shape[1:] for latent in read.latents] == [(3, 2, 2), (12, 2, 2)]
    for encoder, latents in zip((COARSE, PIXELS), read.latents, strict=True):
        truth = encoded(shards, encoder, flip, range(8))
        assert latents.dtype == torch.float32 and latents.equal(truth.half().float())
    assert not read.latents[1].equal(both.read(range(8), ~flip).latents[1])
    # And so for every batch of a training, with and without workers.
    for workers in (0, 2):
        for batch in batches(both, 4, range(4), 0, flip=True, workers=workers):
            torch.testing.assert_close(batch.latents[0], COARSE.load(shards, PATCH, tmp_path)(to_float(batch.images)),
                                       rtol=1e-3, atol=1e-3)  # fmt: skip


def test_float32_latents_are_exact_and_another_dtype_is_refused(shards: Shards, tmp_path: Path) -> None:
    cache.write(shards, PIXELS, CONFIG.model_copy(update={"dtype": "float32"}), CPU)
    got = attach(shards, [PIXELS], PATCH, tmp_path, flip=False)[0].read(range(8)).latents[0]
    assert got.equal(encoded(shards, PIXELS, torch.zeros(8, dtype=torch.bool), range(8)))
    with pytest.raises(UserError, match="dtype=float32, not float16"):
        cache.write(shards, PIXELS, CONFIG, CPU)


def test_images_in_memory_get_the_latents_of_both_sides_now(tmp_path: Path) -> None:
    images = data.load("digits", 8, "train", tmp_path)
    for flip in (False, True):
        for mode in ("auto", "cached"):
            with_latents, online = attach(images, [PIXELS, COARSE], PATCH, tmp_path, flip, mode)
            assert online is None
            for flips in (torch.zeros(600, dtype=torch.bool), torch.arange(600) % 2 == 0)[: 1 + flip]:
                for encoder, latents in zip(
                    (PIXELS, COARSE), with_latents.read(range(600), flips).latents, strict=True
                ):
                    assert latents.equal(encoded(images, encoder, flips, range(600)))
    assert images.latents == ()


def test_online_hands_back_the_encoders(shards: Shards, tmp_path: Path) -> None:
    images = data.load("digits", 8, "train", tmp_path)
    for source, mode in ((images, "online"), (shards, "online"), (shards, "auto")):
        same, online = attach(source, [PIXELS], PATCH, tmp_path, True, mode)
        assert same is source and online is not None and len(online) == 1
        assert online[0](torch.zeros(1, 3, 8, 8)).shape == (1, 12, 2, 2)
    assert attach(shards, [], PATCH, tmp_path, True, "cached")[0].read([0]).latents == ()


def test_what_is_not_cached_is_said_with_the_command_that_caches_it(shards: Shards, tmp_path: Path) -> None:
    cache.write(shards, COARSE, CONFIG, CPU)
    with pytest.raises(UserError) as caught:
        attach(shards, [COARSE, PIXELS], PATCH, tmp_path, True, "cached")
    command = str(caught.value).partition("run: python -m lf.encoders.cache ")[2]
    assert attach(shards, [COARSE, PIXELS], PATCH, tmp_path, True, "auto")[0] is shards  # all or none
    code, said, err = run("lf.encoders.cache", *shlex.split(command), f"cache={tmp_path}/cache", "workers=1")
    assert code == 0 and said.startswith("done: "), err
    assert attach(shards, [COARSE, PIXELS], PATCH, tmp_path, True, "cached")[1] is None


def test_latents_are_named_by_all_that_they_depend_on_and_nothing_else(shards: Shards, tmp_path: Path) -> None:
    again = data.open(f"shards:{tmp_path}", 8, tmp_path / "cache")
    larger = data.open(f"shards:{tmp_path}", 16, tmp_path / "cache")
    assert isinstance(again, Shards) and isinstance(larger, Shards)
    heavier = encoders.create("pixels", cells=2, loss_weight=3)
    assert folder_of(shards, PIXELS, 4) == folder_of(again, heavier, 4)
    others = [folder_of(shards, COARSE, 4), folder_of(shards, PIXELS, 2), folder_of(larger, PIXELS, 4)]
    assert len({folder_of(shards, PIXELS, 4), *others}) == 4


class Faulty(Encoder):
    """Gives what it is told to, for so many batches."""

    name: Literal["faulty"] = "faulty"

    def channels(self, patch: int) -> int:
        return 3

    def load(self, data: Dataset, patch: int, cache: Path) -> nn.Module:
        return Pooled(patch)


class Pooled(nn.Module):
    calls, last, gain = 0, 10**9, 1.0

    def __init__(self, patch: int):
        super().__init__()
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        Pooled.calls += 1
        if Pooled.calls > Pooled.last:
            raise InterruptedError
        return nn.functional.avg_pool2d(x, self.patch) * Pooled.gain


def test_after_a_stop_it_goes_on_to_the_very_same_bytes(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write(shards, Faulty(), CONFIG, CPU)
    folder = folder_of(shards, Faulty(), PATCH)
    folder.rename(tmp_path / "calm")
    total = Pooled.calls
    monkeypatch.setattr(Pooled, "calls", 0)
    monkeypatch.setattr(Pooled, "last", 7)  # within the last shard
    with pytest.raises(InterruptedError):
        cache.write(shards, Faulty(), CONFIG, CPU)
    done = {name: file for name, file in files(folder).items() if name.endswith(".tar")}
    assert len(done) == 2 and tars.index(folder) is None
    monkeypatch.setattr(Pooled, "calls", 0)
    assert cache.write(shards, Faulty(), CONFIG, CPU)
    assert Pooled.calls < total and all(files(folder)[name] == file for name, file in done.items())
    calm = {name: content for name, (_, content) in files(tmp_path / "calm").items()}
    assert {name: content for name, (_, content) in files(folder).items()} == calm
    assert not cache.write(shards, Faulty(), CONFIG, CPU)


def test_a_latent_too_big_for_its_dtype_stops_it(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pooled, "gain", 1e9)
    with pytest.raises(UserError, match="a latent of faulty is not finite in dtype=float16"):
        cache.write(shards, Faulty(), CONFIG, CPU)


def test_a_damaged_latent_is_a_damaged_image(shards: Shards, tmp_path: Path) -> None:
    cache.write(shards, PIXELS, CONFIG, CPU)
    both = attach(shards, [PIXELS], PATCH, tmp_path, True)[0]
    assert isinstance(both, Shards)
    with (folder_of(shards, PIXELS, PATCH) / "latents-000002.tar").open("r+b") as stream:
        stream.seek(int(both.latents[0].samples["offset"][5, 1]))
        stream.write(b"?" * 40)
    read = both.read([4, 5], torch.tensor([True, True]))
    assert read.valid.tolist() == [True, False] and not read.latents[0][1].any() and not read.images[1].any()
    assert len(read.damaged) == 1 and read.damaged[0].startswith("part-002.tar:some/00005: its latent: ")
    assert both.read([5]).valid.all()  # the other side is as it was


def test_a_damaged_image_keeps_its_place_among_the_latents(tmp_path: Path) -> None:
    pattern = packed(tmp_path, [4])
    file = tmp_path / "part-000.tar"
    shards = data.open(f"shards:{pattern}", 8, tmp_path / "cache")
    assert isinstance(shards, Shards)
    with file.open("r+b") as stream:
        stream.seek(int(shards.samples["offset"][1]))
        stream.write(b"?" * 20)
    shards = data.open(f"shards:{pattern}", 8, tmp_path / "cache")
    assert isinstance(shards, Shards)
    cache.write(shards, PIXELS, CONFIG, CPU)
    index = tars.index(folder_of(shards, PIXELS, PATCH))
    assert index is not None and [d.split(": ")[0] for d in index["shards"][0]["damaged"]] == [
        "part-000.tar:some/00001"
    ]
    read = attach(shards, [PIXELS], PATCH, tmp_path, True)[0].read(range(4))
    assert read.valid.tolist() == [True, False, True, True]
    truth = encoded(shards, PIXELS, torch.zeros(4, dtype=torch.bool), range(4)).half().float()
    assert read.latents[0][read.valid].equal(truth[read.valid])


@pytest.mark.parametrize(("words", "said"), [
    (["pixelz"], "did you mean 'pixels'?"),
    (["{name: pixels, cels: 2}"], "did you mean 'cells'?"),
    (["pixels", "patch=3", "resolution=8"], "must divide the patch size 3"),
    (["{name: pixels, cells: 1}", "patch=3", "resolution=8"], "patch=3: must divide the resolution, 8"),
    (["pixels", "dtype=float8"], "cache.dtype"),
    (["pixels", "device=gpu"], "device=gpu"),
    (["pixels", "preset=shapes"], "cache.preset: unknown key"),
])  # fmt: skip
def test_what_does_not_fit_is_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern = packed(tmp_path / "tars", [2])
    given = [words[0], pattern, f"cache={tmp_path}", *words[1:]]
    assert said in refusal(cache.main, given, capsys)
    assert "usage: python -m lf.encoders.cache" in refusal(cache.main, words[:1], capsys)
    assert "no such file" in refusal(cache.main, ["pixels", "/no/such.tar"], capsys)
    assert not (tmp_path / "tars" / "latents").exists()
