"""Sampling: an image depends on its own index alone, whatever batch and process it is drawn in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from toy import LATENT, PATIENCE, refusal, training

from lf import sample
from lf.config import Sampling, Training
from lf.core.errors import UserError
from lf.core.parsing import overrides, parse
from lf.core.runtime import Runtime
from lf.evaluate import network_of
from lf.model.denoiser import LatentForcing
from lf.runs import training_run
from lf.train import train

CASES = {
    "cascaded": ["path=cascaded"],
    "shifted": ["path=shifted", "path.alpha=4"],
    "guided": ["path=shifted", "path.alpha=4", "guidance.kind=cfg", "guidance.scale.pixels=2",
               "guidance.scale.pixels_latent=1.5", "guidance.interval.pixels=[0.2,0.9]"],
}  # fmt: skip
PROCESS = """
import json, sys
from safetensors.torch import save_file
from lf.config import Sampling
from lf.core.parsing import parse
from lf.core.runtime import Runtime
from lf.core.errors import UserError
from lf.evaluate import network_of
from lf.runs import find_training
run, runtime, cases, first, last, out = json.loads(sys.argv[1])
trained = find_training(run, Runtime(**runtime))
trained.training.runtime.apply()
indices, found = range(first, last), {}
for name, values in cases.items():
    config = parse(Sampling, values)
    model = network_of(trained, config.weights)
    found[f"{name}.images"], found[f"{name}.labels"] = model.images(indices, config, batch=64)
    found |= {f"{name}.noise{i}": e for i, e in enumerate(model.noise(indices, config.seed))}
save_file(found, out)
"""


def sampling(*words: str) -> Sampling:
    return parse(Sampling, overrides(["steps=6", *words]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Trained far enough that its output is not zero."""
    config = training(LATENT, "schedule=cascaded", "lr=1e-2", f"runtime.runs={tmp_path_factory.mktemp('runs')}")
    train(config)
    return config


@pytest.fixture(scope="module")
def model(trained: Training) -> LatentForcing:
    return network_of(training_run(trained), "ema")


@pytest.fixture(scope="module")
def halves(trained: Training, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Images, labels and noise of 0..63, drawn by two processes, a half each."""
    parts = []
    cases = {name: {"steps": 6, **overrides(words)} for name, words in CASES.items()}
    runtime = trained.runtime.model_dump() | {"batch": 64}
    for first in (0, 32):
        out = tmp_path_factory.mktemp("half") / "drawn.safetensors"
        job = json.dumps([training_run(trained).id, runtime, cases, first, first + 32, str(out)])
        subprocess.run([sys.executable, "-c", PROCESS, job], check=True, timeout=PATIENCE)
        parts.append(load_file(out))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def draw(model: LatentForcing, config: Sampling, batch: int, indices: range = range(64)) -> tuple[Tensor, Tensor]:
    return model.images(indices, config, batch=batch)


def apart(a: Tensor, b: Tensor) -> int:
    """Largest difference of two uint8 tensors."""
    assert a.dtype == b.dtype == torch.uint8
    return int((a.int() - b.int()).abs().max())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_an_image_is_the_same_in_any_batch_and_any_process(
    case: str, model: LatentForcing, halves: dict[str, Tensor]
) -> None:
    config = sampling(*CASES[case])
    images, labels = draw(model, config, batch=64)
    assert len({image.numpy().tobytes() for image in images}) == 64 and images.float().std() > 10

    by_seven, same_labels = draw(model, config, batch=7)
    assert same_labels.equal(labels) and apart(by_seven, images) <= 1

    assert halves[f"{case}.labels"].equal(labels) and apart(halves[f"{case}.images"], images) <= 1
    noise = model.noise(range(64), config.seed)
    assert len(noise) == 2
    for stream, whole in enumerate(noise):
        assert halves[f"{case}.noise{stream}"].equal(whole)
        single = torch.cat([model.noise([index], config.seed)[stream] for index in range(64)])
        assert single.equal(whole)


def test_guidance_and_path_change_the_images(model: LatentForcing) -> None:
    images = [draw(model, sampling(*words), batch=64)[0] for words in CASES.values()]
    assert all(apart(images[0], other) > 1 for other in images[1:]) and apart(images[1], images[2]) > 1


def test_another_seed_is_another_set_of_images(model: LatentForcing) -> None:
    first, again, other = (draw(model, sampling(f"seed={seed}"), batch=64)[0] for seed in (0, 0, 1))
    assert apart(first, again) == 0 and apart(first, other) > 1
    noise = [model.noise(range(300), seed) for seed in (0, 1)]
    seen = {e.numpy().tobytes() for pair in noise for e in pair[0]}
    assert len(seen) == 600, "two images of any index and seed share their noise"


def test_a_stream_has_its_noise_whatever_comes_after_it(model: LatentForcing, trained: Training) -> None:
    alone = LatentForcing(trained.model_copy(update={"latents": ()}), model.classes)
    assert alone.noise(range(8), 3)[0].equal(model.noise(range(8), 3)[0])


@pytest.mark.parametrize("n", [10, 64, 1000])
def test_labels_are_balanced(model: LatentForcing, n: int) -> None:
    counts = model.labels(range(n)).bincount(minlength=model.classes)
    assert counts.sum() == n and counts.max() - counts.min() <= 1


def test_raw_weights_and_averaged_weights_draw_other_images(trained: Training) -> None:
    config = sampling()
    assert apart(*(draw(network_of(training_run(trained), kind), config, batch=64)[0] for kind in ("raw", "ema"))) > 0


def words_of(trained: Training, out: Path) -> list[str]:
    plain = ["runtime.compile=false", "runtime.threads=1", f"runtime.runs={trained.runtime.runs}"]
    return [f"run={training_run(trained).id}", f"out={out}", "n=16", "steps=2", *plain]


def test_the_door_draws_a_grid_and_writes_over_nothing(
    trained: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(trained, tmp_path / "grid.png")
    sample.main(words)
    assert capsys.readouterr().out.strip() == str(tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (4 * 17 + 1, 4 * 17 + 1)
    before = (tmp_path / "grid.png").read_bytes()
    assert "grid.png" in refusal(sample.main, words, capsys)
    assert (tmp_path / "grid.png").read_bytes() == before


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("run=nonesuch", "nonesuch"),
        ("steps=3", "steps=3"),  # odd, and the training's path is cascaded
        ("path=cascade", "cascaded"),
        ("path=independent", "path"),
        ("guidance.kind=cfg guidance.scale.pixel=2", "pixels"),
        ("guidance.scale.pixels=2", "cfg"),
        ("solver=hoin", "solver"),
        ("stps=4", "steps"),
        ("weights=best", "weights"),
        ("label=10", "0 to 9"),
        ("weights=ema7", "allowed: ema, raw"),
        ("shift.pixel=2", "pixels"),
    ],
)
def test_the_door_refuses_what_it_cannot_do(
    word: str, named: str, trained: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words_of(trained, tmp_path / "grid.png"), *word.split()]
    assert named in refusal(sample.main, words, capsys)
    assert not list(tmp_path.iterdir())


def test_the_door_refuses_an_unreadable_checkpoint(
    trained: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = trained.model_copy(update={"runtime": Runtime(runs=str(tmp_path), compile=False, threads=1)})
    with training_run(moved).held():
        pass
    words = words_of(moved, tmp_path / "grid.png")
    file = training_run(moved).folder / "checkpoint.safetensors"
    assert "not trained yet" in refusal(sample.main, words, capsys)
    file.write_bytes(b"garbage")
    assert str(file) in refusal(sample.main, words, capsys)
    assert file.read_bytes() == b"garbage" and not (tmp_path / "grid.png").exists()


def test_a_label_that_is_asked_for_is_the_label_that_is_drawn(model: LatentForcing) -> None:
    balanced, labels = draw(model, sampling(), batch=64)
    ones = torch.ones(64, dtype=torch.long)
    images, asked = model.images(range(64), sampling(), labels=ones)
    assert asked.equal(ones)
    same = labels == 1
    assert (
        0 < same.sum() < 64 and apart(images[same], balanced[same]) <= 1 and apart(images[~same], balanced[~same]) > 1
    )


def test_a_shift_moves_a_streams_times_alone(trained: Training) -> None:
    plain, shifted = (
        sampling("path=cascaded", *words).path_for(trained) for words in ([], ["shift.pixels_latent=0.5"])
    )
    torch.testing.assert_close(shifted[:, 1], 0.5 * plain[:, 1] / (1 - 0.5 * plain[:, 1]))
    assert shifted[:, 0].equal(plain[:, 0])


def test_noise_in_finished_latents_changes_the_images(model: LatentForcing) -> None:
    plain, noisy = (draw(model, sampling("path=cascaded", f"latent_noise={s}"), batch=64)[0] for s in (0, 0.25))
    assert apart(plain, noisy) > 1


def test_saved_and_loaded_it_draws_the_same_images(trained: Training, model: LatentForcing, tmp_path: Path) -> None:
    from lf import LatentForcing as Exported

    model.save_pretrained(tmp_path / "saved")
    again = Exported.from_pretrained(tmp_path / "saved")
    run = Exported.from_pretrained(training_run(trained).folder)
    images = draw(model, sampling(), batch=64)[0]
    assert draw(again, sampling(), batch=64)[0].equal(images) and draw(run, sampling(), batch=64)[0].equal(images)
    assert again.config.model_dump(exclude={"runtime"}) == trained.model_dump(exclude={"runtime"})
    for wrong in (tmp_path, tmp_path / "nowhere" / "at" / "all"):
        with pytest.raises(UserError, match=str(wrong)):
            Exported.from_pretrained(wrong)


def test_a_network_trained_without_labels_is_shown_none(trained: Training, model: LatentForcing) -> None:
    free = LatentForcing(trained.model_copy(update={"label_dropout": 1.0}), model.classes)
    free.load_state_dict(model.state_dict())
    seen: list[Tensor] = []
    free.network.register_forward_pre_hook(lambda _, given: seen.append(given[2]))
    free.eval().images(range(4), sampling())
    assert seen and all((y == model.classes).all() for y in seen)
