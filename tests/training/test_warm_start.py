"""A training that begins with the weights of another run: how it begins, how it is named, what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toy import LATENT, PATIENCE, PLAIN, WORDS, files, first_loss, refusal, start, stop_after, training

from lf.config import Evaluation, Training
from lf.core.runtime import Runtime
from lf.evaluate import evaluate
from lf.model.denoiser import LatentForcing
from lf.runs import find_training, training_run
from lf.storage import checkpoint
from lf.train import main, train

CASE = [LATENT, "schedule=cascaded", "dtype=float32", "ema=[0.9,0.5]"]
SHORT = [*CASE, "steps=4", "seed=1"]


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training."""
    config = training(*CASE, f"runtime.runs={tmp_path_factory.mktemp('trunk')}")
    train(config)
    return training_run(config).folder


def tensors(config: Training) -> dict[str, Tensor]:
    return checkpoint.read(training_run(config).folder / checkpoint.NAME)[0]


@pytest.mark.parametrize("weights", ["ema", "ema2", "raw"])
def test_it_begins_with_the_loss_of_the_trunk(
    trunk: Path, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = training(*SHORT, f"init={trunk}", f"init.weights={weights}", f"runtime.runs={tmp_path}")
    train(config)
    assert f"init={trunk}: all parameters are copied\n" in capsys.readouterr().err
    first = tensors(config)["losses"][0, 0].item()
    assert first == pytest.approx(first_loss(LatentForcing.from_pretrained(trunk, weights), config), rel=1e-5)
    torch.manual_seed(config.seed)
    assert first < 0.9 * first_loss(LatentForcing(config, 10), config)


def test_its_averages_begin_with_the_trunk_and_do_not_lag(trunk: Path, tmp_path: Path) -> None:
    """The decay of step s is min(decay, (1 + s) / (10 + s)): 1/10, 2/11, 3/12."""
    words = [*CASE, f"init={trunk}", "ema=[0.9,0.15]", "warmup=0", f"runtime.runs={tmp_path}"]
    after = []
    for steps in (1, 2, 3):
        config = training(*words, f"steps={steps}")
        train(config)
        after.append(tensors(config))
    begun = checkpoint.read(trunk / checkpoint.NAME, "ema")[0]
    for name, value in begun.items():
        for ema, decays in (("ema", (1 / 10, 2 / 11, 3 / 12)), ("ema2", (1 / 10, 0.15, 0.15))):
            expected = value
            for found, decay in zip(after, decays, strict=True):
                expected = decay * expected + (1 - decay) * found[f"raw.{name}"]
                torch.testing.assert_close(found[f"{ema}.{name}"], expected, rtol=1e-5, atol=1e-7)
    long = training(*words, "steps=1000").init
    assert [long.decay(0.998, step) for step in (0, 90, 10_000)] == [0.1, 0.91, 0.998]
    assert [training(*CASE).init.decay(0.998, step) for step in (0, 1, 2)] == [0, 0.998, 0.998]


def test_stopped_it_ends_bit_by_bit_as_if_it_had_not_been(trunk: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(trunk, tmp_path / "trunk"))
    places = [f"runtime.runs={tmp_path / name}" for name in ("whole", "stopped")]
    whole, stopped = (training(*SHORT, f"init={copied}", "runtime.checkpoint_seconds=1e-6", place) for place in places)
    train(whole)
    stop_after(stopped, 2)
    (copied / checkpoint.NAME).unlink()  # it is not read again
    train(stopped)
    one, other = tensors(whole), tensors(stopped)
    assert one.keys() == other.keys() and all(other[name].equal(one[name]) for name in one)


def test_it_is_named_by_the_trunk_and_the_weights_not_by_a_path(
    trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(shutil.copytree(trunk.parents[1], tmp_path / "moved"))
    runs = f"runtime.runs={store}"
    moved = store / "training" / trunk.name
    monkeypatch.chdir(moved.parent)
    names = [
        trunk.name,
        trunk.name[:7],
        "cascaded pixels_latent",
        str(moved),
        str(trunk),
        f"./{trunk.name}/",
    ]
    found = {training_run(training(*SHORT, f"init={name}", runs)).id for name in names}
    assert len(found) == 1
    config = training_run(training(*SHORT, f"init={trunk.name}", runs)).config
    assert config["init"] == {"name": str(moved), "weights": "ema"} and config["contents"] == {"init.name": trunk.name}
    others = [[], [f"init={moved}", "init.weights=raw"], [f"init={moved}", "seed=2"]]
    assert len(found | {training_run(training(*SHORT, *words, runs)).id for words in others}) == 4
    assert "init" not in training(*SHORT).model_dump()


def test_done_it_is_as_good_a_run_as_any(
    trunk: Path, judged: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Path(shutil.copytree(trunk.parents[1], judged(tmp_path / "runs"), dirs_exist_ok=True))
    words = [*WORDS, *PLAIN, *SHORT, f"runtime.runs={store}", f"init={trunk.name}"]
    main(words)
    folder = training_run(training(*words)).folder
    before = files(folder)
    capsys.readouterr()
    main(words)
    assert "init=" not in capsys.readouterr().err, "nothing is trained"
    assert [name for name, found in files(folder).items() if before[name] != found] in ([], ["lock"])
    shutil.rmtree(store / "training" / trunk.name)
    run = find_training(folder.name, Runtime(runs=str(store)))
    row = evaluate(run, Evaluation(n=8, steps=2, solver="heun_per_stream"))
    assert row["training"] == folder.name
    model = LatentForcing.from_pretrained(folder)
    model.save_pretrained(tmp_path / "hub")
    again = LatentForcing.from_pretrained(tmp_path / "hub")
    assert all(v.equal(again.state_dict()[k]) for k, v in model.state_dict().items())


def harmed(trunk: Path, place: Path, harm: str) -> Path:
    """A copy of the trunk with a fault."""
    copy = Path(shutil.copytree(trunk, place))
    file = copy / checkpoint.NAME
    whole = file.read_bytes()
    if harm == "unfinished":
        (copy / "row.json").unlink()
    elif harm == "gone":
        file.unlink()
    elif harm == "config":
        (copy / "config.json").write_text("{")
    else:
        file.write_bytes(whole[:5000] if harm == "truncated" else whole[:-5] + b"\x7f" * 5)
    return copy


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("unfinished", "its training is not finished"),
        ("gone", "not trained yet"),
        ("config", "cannot read"),
        ("truncated", "cannot read checkpoint"),
        ("flipped", "the digest of raw differs"),
    ],
)
def test_a_harmed_trunk_is_one_line_and_nothing_is_written(
    trunk: Path, harm: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = harmed(trunk, tmp_path / "trunk", harm)
    words = [*WORDS, *PLAIN, *SHORT, f"init={copy}", "init.weights=raw", f"runtime.runs={tmp_path / 'runs'}"]
    assert said in refusal(main, words, capsys)
    assert not (tmp_path / "runs").exists()
    assert said in refusal(main, [*words, "--dry-run"], capsys)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("init=nothing", "init=nothing: no such training run"),
        (
            "init={name: {trunk}, weight: raw}",
            "training.init.weight: unknown key; allowed: name, weights",
        ),
        ("init.weights=raw", "weights=raw: of which run? give init=RUN, too"),
        ("init.weights=ema3", "has no weights 'ema3'; allowed: ema, ema2, raw"),
        ("init.weights=best", "init.weights='best': "),
        ("network.width=64", "init={trunk}: does not fit: network.width=64 instead of 32; these must be"),
        ("network.depth=2", "network.depth=2 instead of 1"),
        ("network.heads=4", "network.heads=4 instead of 2"),
        ("network.bottleneck=8", "network.bottleneck=8 instead of 16"),
        ("network.patch=8", "network.patch=8 instead of 4"),
        ("network.class_tokens=2 network.class_token_block=0", "network.class_tokens=2 instead of 0"),
        ("network.expert_width=16", "network.expert_width=16 instead of 0"),
        ("latents=[{name: pixels, cells: 4}]", "channels of pixels_latent=48 instead of 12"),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(
    trunk: Path, word: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [word.replace("{trunk}", str(trunk))] if "{" in word else word.split()
    init = [] if word.startswith("init=") or word == "init.weights=raw" else [f"init={trunk}"]
    words = [*WORDS, *PLAIN, *SHORT, *init, *named, f"runtime.runs={tmp_path / 'runs'}"]
    assert said.replace("{trunk}", str(trunk)) in refusal(main, words, capsys)
    assert not (tmp_path / "runs").exists()


def test_two_at_once_train_it_once(trunk: Path, tmp_path: Path) -> None:
    words = [*WORDS, *PLAIN, *SHORT, f"init={trunk}", f"runtime.runs={tmp_path}"]
    both = [start("lf.train", *words) for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE) for process in both]
    assert not any(process.returncode for process in both), said
    assert sum("all parameters are copied" in err for _, err in said) == 1, said
    assert len([file for file in tmp_path.glob("training/*/*") if "tfevents" in file.name]) == 1
