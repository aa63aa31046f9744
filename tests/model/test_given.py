"""Sampling that is given some streams: taken from held-out images, and left as they are."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from toy import LATENT, Judged, refusal, training

from lf import data, evaluate, sample
from lf.config import Evaluation, Sampling, Training
from lf.core.errors import UserError
from lf.core.parsing import overrides, parse
from lf.data import to_float
from lf.evaluate import network_of
from lf.model.denoiser import LatentForcing
from lf.runs import evaluation_run, training_run
from lf.train import train

GIVEN = "given=[pixels_latent]"
N = range(30)


def sampling(*words: str) -> Sampling:
    return parse(Sampling, overrides(["steps=6", *words]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, judged: Judged) -> Training:
    runs = judged(tmp_path_factory.mktemp("runs"))
    words = ["schedule=independent", "lr=1e-2", "steps=300", f"runtime.runs={runs}"]
    config = training(LATENT, *words)
    train(config)
    return config


@pytest.fixture(scope="module")
def model(trained: Training) -> LatentForcing:
    return network_of(training_run(trained), "ema")


def drawn(model: LatentForcing, config: Sampling, **how: object) -> list[Tensor]:
    return [torch.cat(parts) for parts in zip(*model.all_streams(N, config, **how), strict=True)]


def pictures(model: LatentForcing) -> Tensor:
    given = model.given_streams(sampling(GIVEN))
    assert given
    return given.pictures(N, model.labels(N))


def small(images: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(images, 8)


PATHS = {
    "cascaded": ["path=cascaded"],
    "pixels first": ["path=cascaded", "path.order=[pixels,pixels_latent]"],
    "together": ["path=cascaded", "path.order=[[pixels,pixels_latent]]", "solver=heun_per_stream"],
    "shifted": ["path=shifted", "path.offset=0.2", "latent_noise=0.2"],
    "points": ["path=points", "path.points=[[0,0],[0.1,0.8],[1,1]]", "solver=euler"],
    "guided": ["path=shifted", "guidance.kind=cfg", "guidance.scale.pixels=1.5", "guidance.scale.pixels_latent=2"],
}


@pytest.mark.parametrize("words", PATHS.values(), ids=PATHS)
def test_a_given_stream_is_that_of_the_picture_along_every_path(model: LatentForcing, words: list[str]) -> None:
    real = to_float(pictures(model))
    (encoder,) = model.config.latents
    clean = encoder.load(data.open("digits", 16, model.config.runtime.cache), 4, model.config.runtime.cache)(real)
    pixels, latent = drawn(model, sampling(GIVEN, *words))
    assert latent.equal(clean)
    own, _ = drawn(model, sampling(*words))
    apart, own_apart = ((small(x) - small(real)).square().mean() for x in (pixels, own))
    assert apart < 0.7 * own_apart, "they show the pictures whose latents they were given"


def test_a_given_stream_may_have_noise_that_matches_its_time(model: LatentForcing) -> None:
    (_, clean), (_, noisy) = (
        drawn(model, sampling("path=shifted", given)) for given in (GIVEN, "given.pixels_latent=0.8")
    )
    noise = model.noise(N, 0)[1]
    torch.testing.assert_close(noisy, 0.8 * clean + 0.2 * noise, rtol=0, atol=1e-6)


def test_pixels_may_be_given_and_the_latent_made(model: LatentForcing) -> None:
    pixels, latent = drawn(model, sampling("given=[pixels]", "path=shifted"))
    assert pixels.equal(to_float(pictures(model)))
    _, real = drawn(model, sampling(GIVEN, "path=shifted"))
    _, own = drawn(model, sampling("path=shifted"))
    assert (latent - real).square().mean() < 0.7 * (own - real).square().mean(), "an encoder of pixels"


def test_an_image_is_given_the_same_picture_in_any_batch(model: LatentForcing) -> None:
    whole, parts = (drawn(model, sampling(GIVEN, "path=shifted"), batch=batch)[1] for batch in (30, 7))
    assert whole.equal(parts)


def test_pictures_are_held_out_of_the_class_and_taken_in_turn(model: LatentForcing) -> None:
    test = data.load("digits", 16, "test", model.config.runtime.cache)
    given = model.given_streams(sampling(GIVEN))
    assert given
    for labels, n in ((model.labels(range(200)), 200), (torch.full((20,), 3), 20)):
        seen = given.pictures(range(n), labels)
        rows = [(test.images == image).flatten(1).all(1).nonzero()[0, 0] for image in seen]
        assert test.labels[torch.stack(rows)].equal(labels)
        assert len({int(row) for row in rows}) == n, "no picture twice while there are others"


def test_steps_in_which_nothing_would_move_are_left_out(trained: Training) -> None:
    path = sampling(GIVEN, "path=cascaded").path_for(trained)
    assert path.tolist() == [pytest.approx([i / 3, 1]) for i in range(4)]
    assert sampling("path=cascaded").path_for(trained).shape == (7, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["given=[pixels,pixels_latent]"], "given=[pixels, pixels_latent]: no stream is left to generate"),
        (["given=[pixels_latent]", "path=latent_only"], "no stream is left to generate along the path latent_only"),
        (["given=[pixel_latent]"], "given.pixel_latent: no such stream; allowed: pixels, pixels_latent; did you mean"),
        (["given.pixels_latent=0"], "given.pixels_latent=0: input should be greater than 0"),
        (["given.pixels_latent=1.5"], "given.pixels_latent=1.5: input should be less than or equal to 1"),
        (["given=3"], "given=3: must be names of streams"),
        (["given=[pixels]", "given.pixels=0.5"], "given=[pixels] given.pixels=0.5"),
        (["given_data=digits"], "given_data=digits: needs given"),
        ([GIVEN, "given_data=shapes"], "given_data=shapes: has 6 classes, and the network 10"),
        ([GIVEN, "given_data=folder:missing"], "no such folder"),
        (["given=[pixels]", "path=shifted"], "no latent of this network has a decoder"),
    ],
    ids=str,
)
def test_what_cannot_be_given_is_one_line(
    words: list[str], said: str, trained: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = training_run(trained)
    where = [f"run={run.id}", f"runtime.runs={trained.runtime.runs}", f"out={tmp_path / 'x.png'}"]
    path = [] if any(word.startswith("path=") for word in words) else ["path=shifted"]
    assert said in refusal(sample.main, [*where, "steps=4", *path, *words], capsys)


def test_it_is_part_of_the_identity_and_of_the_row(trained: Training) -> None:
    run = training_run(trained)
    plain, listed, timed, other = (
        evaluation_run(run, parse(Evaluation, overrides(["n=20", "steps=4", "path=cascaded", *words])))
        for words in ([], [GIVEN], ["given.pixels_latent=1"], ["given.pixels_latent=0.8"])
    )
    assert listed.id == timed.id and len({plain.id, listed.id, other.id}) == 3
    assert "given" not in plain.config and listed.config["given"] == {"pixels_latent": 1.0}
    with_data = parse(Evaluation, overrides(["n=20", GIVEN, "path=cascaded", "given_data=digits"]))
    assert evaluation_run(run, with_data).config["given_data"] == data.digest("digits", 16)


def test_its_row_says_how_well_the_images_agree_with_their_pictures(trained: Training) -> None:
    config = parse(Evaluation, overrides(["n=20", "steps=4", "path=cascaded", GIVEN]))
    row = evaluate.evaluate(training_run(trained), config)
    assert row["given"] == {"pixels_latent": 1.0} and 0 <= row["given_agreement"] <= 1


def test_the_command_draws_them(trained: Training, tmp_path: Path) -> None:
    where = [f"run={training_run(trained).id}", f"runtime.runs={trained.runtime.runs}", f"out={tmp_path / 'x.png'}"]
    sample.main([*where, "n=4", "steps=4", "path=cascaded", GIVEN, "label=3", "given_data=digits"])
    assert (tmp_path / "x.png").exists()


def test_what_holds_out_no_images_is_told_so(trained: Training) -> None:
    shards = trained.model_copy(update={"data": "shards:x"})
    with pytest.raises(UserError, match="data=shards:x holds out no images; give given_data="):
        sampling(GIVEN, "path=cascaded").path_for(shards)
    assert sampling(GIVEN, "path=cascaded", "given_data=digits").path_for(shards).shape == (4, 2)
