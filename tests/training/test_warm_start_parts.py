"""What a warm start copies: streams by name, all but what has another shape; and public weights on one's own images."""

import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from converted import nets
from PIL import Image
from published_files import args_of, write_checkpoint
from torch import nn
from toy import first_loss, training

from lf import convert
from lf.config import Training
from lf.diffusion.streams import Stream
from lf.model.denoiser import LatentForcing
from lf.network import Network, NetworkConfig
from lf.runs import training_run
from lf.storage import checkpoint
from lf.train import train
from lf.training.warm_start import begin, start

SIZE = {"depth": 1, "width": 16, "heads": 2, "bottleneck": 8, "patch": 4, "class_tokens": 2, "class_token_block": 0}
PER_STREAM = ("embed", "time", "branches")
CHANNELS = {"pixels": 3, "tiny": 5, "dinov2": 7, "vae": 2}


def network(*names: str, grid: int = 2, classes: int = 3, seed: int = 0, **fields: int) -> Network:
    """A network over streams of these names, with random weights everywhere."""
    patches = [4 if name == "pixels" else 1 for name in names]
    streams = [Stream(name, CHANNELS[name], grid * p, p) for name, p in zip(names, patches, strict=True)]
    return randomized(Network(NetworkConfig(**SIZE | fields), streams, classes), seed)


def randomized(network: Network, seed: int) -> Network:
    torch.manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


@pytest.mark.parametrize("expert", [0, 16])
def test_the_same_streams_in_another_order_are_the_same_network(expert: int) -> None:
    trunk = network("pixels", "tiny", "dinov2", expert_width=expert)
    new = network("pixels", "dinov2", "tiny", seed=1, expert_width=expert)
    assert begin(new, trunk) == "all parameters are copied"
    z, t = [torch.randn(2, *stream.shape) for stream in trunk.streams], torch.rand(2, 3)
    for y in (torch.tensor([0, 2]), torch.tensor([3, 3])):
        expected, found = trunk(z, t, y).x, new([z[0], z[2], z[1]], t[:, [0, 2, 1]], y).x
        for a, b in zip(expected, (found[0], found[2], found[1]), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("expert", [0, 16])
def test_other_streams_classes_and_repa_keep_fresh_parameters(expert: int) -> None:
    trunk = network("pixels", "tiny", "dinov2", expert_width=expert, repa_block=0, repa_width=5)
    new = network("pixels", "vae", "dinov2", grid=3, classes=4, seed=1, expert_width=expert, repa_block=0, repa_width=6)
    fresh = {name: value.clone() for name, value in new.state_dict().items()}
    assert begin(new, trunk) == ("fresh parameters for stream vae, labels of 4 classes, REPA; all others are copied")
    theirs, mine = trunk.state_dict(), new.state_dict()
    own = 16 * CHANNELS["pixels"]
    for name, value in mine.items():
        first, number = name.split(".")[:2] if "." in name else (name, "")
        if name == "label.weight":
            assert value[:-1].equal(fresh[name][:-1]) and value[-1].equal(theirs[name][-1])
        elif name.startswith("head.linear"):
            assert value[:own].equal(theirs[name][:own]) and value[-7:].equal(theirs[name][-7:])
            assert value[own:-7].equal(fresh[name][own:-7])
        elif (first == "repa" and value.shape != theirs[name].shape) or (first in PER_STREAM and number == "1"):
            assert value.equal(fresh[name]), name
        else:
            assert value.equal(theirs[name]), name
    assert all(value.isfinite().all() for value in mine.values())


PUBLIC = [
    "network.depth=3", "network.class_tokens=32", "network.class_token_block=1", "dtype=float32", "steps=20",
]  # fmt: skip


def converted(place: Path, name: str, classes: int) -> Path:
    """A folder of `lf.convert`: a small JiT of 16 px, ``name`` or from the file ``name.pth`` that is there."""
    file = place / f"{name}.pth"
    if not file.exists():
        write_checkpoint(file, *nets(classes=classes), args_of())
    convert.main([str(file), str(place / name), "data=digits", "network.class_token_block=1"])
    return place / name


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Thirty images of 30 px in ten classes."""
    for number in range(30):
        file = tmp_path / "photos" / f"class {number % 10}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(256, (30, 30, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))
        Image.fromarray(pixels.numpy()).save(file)
    return tmp_path / "photos"


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_public_weights_are_trained_on_with_own_images(
    photos: Path, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public = converted(tmp_path, "jit", classes=7)
    words = [*PUBLIC, f"data=folder:{photos}", "resolution=24", f"runtime.runs={tmp_path / 'runs'}"]
    words += ["label_dropout=1"]  # the label that both networks have
    config = training(*words, f"init={public}", f"init.weights={weights}")
    train(config)
    assert "fresh parameters for labels of 10 classes; all others are copied\n" in capsys.readouterr().err
    trunk = LatentForcing.from_pretrained(public, weights)
    larger = LatentForcing(trunk.config.model_copy(update={"resolution": 24}), 7)
    larger.network.load_state_dict(trunk.network.state_dict())
    losses = checkpoint.read(training_run(config).folder / checkpoint.NAME)[0]["losses"][:, 0]
    assert losses[0].item() == pytest.approx(first_loss(larger, config), rel=1e-5)
    torch.manual_seed(config.seed)
    assert abs(losses[0].item() / first_loss(LatentForcing(config, 10), config) - 1) > 0.05
    assert losses.isfinite().all()


def test_public_weights_with_the_same_classes_begin_with_the_loss_of_the_trunk(tmp_path: Path) -> None:
    public = converted(tmp_path, "jit", classes=10)
    config = training(*PUBLIC, f"init={public}", f"runtime.runs={tmp_path / 'runs'}")
    train(config)
    first = checkpoint.read(training_run(config).folder / checkpoint.NAME)[0]["losses"][0, 0].item()
    assert first == pytest.approx(first_loss(LatentForcing.from_pretrained(public), config), rel=1e-5)


def test_weights_of_other_origin_are_named_by_what_the_file_holds(tmp_path: Path) -> None:
    def named(folder: Path, weights: str = "ema") -> str:
        return training_run(training(*PUBLIC, f"init={folder}", f"init.weights={weights}")).id

    public = converted(tmp_path, "jit", classes=7)
    moved = Path(shutil.move(public, tmp_path / "moved"))
    again = converted(tmp_path, "jit", classes=7)
    for number in (1, 2):
        LatentForcing.from_pretrained(public).save_pretrained(tmp_path / f"hub{number}")
    same = {named(place) for place in (moved, again, tmp_path / "hub1", tmp_path / "hub2")}
    assert len(same) == 1
    LatentForcing.from_pretrained(public, "raw").save_pretrained(tmp_path / "other")
    assert len({*same, named(public, "raw"), named(tmp_path / "other")}) == 3


@pytest.mark.parametrize(
    ("theirs", "mine", "told"),
    [
        ("{name: tiny}", "{name: tiny, loss_weight: 0.3}", ""),
        ("{name: tiny}", "{name: tiny, seed: 1}", "tiny (other features: seed)"),
        ("{name: pixels, cells: 2}", "{name: pixels, cells: 2, unit: true}", "pixels_latent (other features: unit)"),
        ("{name: dinov2}", "{name: dinov2, weights: mine.safetensors}", ""),
        ("{name: dinov2, stats: a.pt}", "{name: dinov2, clamp: 4, stats: b.pt}",
         "dinov2 (other features: clamp, stats)"),
        ("{name: autoencoder, align: {name: dinov2, weights: a.pt}}",
         "{name: autoencoder, align: {name: dinov2, weights: b.pt}}",
         "autoencoder (other features: align.weights)"),
    ],
)  # fmt: skip
def test_a_stream_that_reads_other_features_has_fresh_parameters(
    theirs: str, mine: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as this is known: a file that is not named, or not there any more, may be the same one."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path(f"{name}.pt").write_bytes(name.encode())
    Path("mine.safetensors").write_bytes(b"mine")
    words = [f"runtime.runs={tmp_path / 'runs'}", "schedule=cascaded"]
    trunk = training(*words, f"latents=[{theirs}]")
    model = finished(trunk)
    new = training(*words, f"latents=[{mine}]", f"init={training_run(trunk).id}")
    torch.manual_seed(1)
    fresh = LatentForcing(new, 10)
    before = {name: value.clone() for name, value in fresh.network.state_dict().items()}
    line = f"fresh parameters for stream {told}; all others are copied" if told else "all parameters are copied"
    assert start(fresh.network, new) == f"init={training_run(trunk).id}: {line}"
    for name, value in fresh.network.state_dict().items():
        if name.startswith(("embed.1.", "time.1.", "branches.1.")):
            assert value.equal(before[name] if told else model.network.state_dict()[name]), name
        elif not name.startswith("head.linear"):
            assert value.equal(model.network.state_dict()[name]), name


def test_features_that_are_trained_on_other_images_are_others(photos: Path, tmp_path: Path) -> None:
    words = [f"runtime.runs={tmp_path / 'runs'}", "schedule=cascaded", "latents=[tiny]"]
    trunk = training(*words)
    finished(trunk)
    new = training(*words, f"data=folder:{photos}", f"init={training_run(trunk).id}")
    assert "for stream tiny (other features: data); all" in start(LatentForcing(new, 10).network, new)


def finished(config: Training) -> LatentForcing:
    """A network as if it had been trained, with its run."""
    torch.manual_seed(0)
    model, run = LatentForcing(config, 10), training_run(config)
    randomized(model.network, 0)
    with run.held():
        optimizer = torch.optim.AdamW(model.parameters())
        checkpoint.save(run.folder, model.network, [deepcopy(model.network)], optimizer, 1, torch.zeros(1, 3))
        run.finish({})
    return model
