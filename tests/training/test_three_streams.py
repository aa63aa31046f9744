"""Three streams along points from a file: trained, stopped, resumed, sampled, evaluated, saved, loaded and swept."""

import json
import re
from pathlib import Path

import pytest
import torch
from inline import inline
from matplotlib.figure import Figure
from safetensors.torch import load_file
from three import LATENTS, POINTS, SWEEP
from toy import PLAIN, WORDS, Judged, training

from analysis import figures, load, page, results
from analysis import probe as probing
from analysis.figures import probe, schedules
from lf import LatentForcing, sample
from lf import train as module
from lf.config import Evaluation, Sampling, Training
from lf.core import preemption
from lf.core.parsing import overrides, parse
from lf.evaluate import evaluate, network_of
from lf.runs import training_run
from lf.storage import checkpoint
from sweeps import launch


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, judged: Judged) -> Path:
    return judged(tmp_path_factory.mktemp("runs"))


def config_of(place: Path, *words: str) -> Training:
    file = place / "path.yaml"
    file.write_text(POINTS)
    config = training(LATENTS, "schedule=points", f"schedule.points={file}", f"runtime.runs={place}", *words)
    file.unlink()
    return config


@pytest.fixture(scope="module")
def done(place: Path) -> Training:
    """Trained without a stop."""
    config = config_of(place)
    module.train(config)
    return config


def test_stopped_and_resumed_it_ends_as_without_a_stop(
    done: Training, tmp_path: Path, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, inputs = config_of(judged(tmp_path)), module.step_inputs

    def stopping(config: Training, step: int, *rest: object) -> object:
        if step == 30:
            preemption.ask("by the test")
        return inputs(config, step, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "step_inputs", stopping)
    with pytest.raises(preemption.Stopped):
        module.train(config)
    run = training_run(config)
    assert run.state == "begun" and checkpoint.read(run.folder / checkpoint.NAME)[1] == 31
    preemption.ask("")
    monkeypatch.undo()
    module.train(config)
    whole, again = (checkpoint.read(training_run(c).folder / checkpoint.NAME)[0] for c in (done, config))
    assert training_run(done).id == run.id and not [name for name in whole if not again[name].equal(whole[name])]


def test_its_folder_holds_the_points_and_all_that_is_sampled_follows_them(done: Training, tmp_path: Path) -> None:
    stored = json.loads((training_run(done).folder / "config.json").read_text())["schedule"]
    assert stored["points"] == [[0, 0, 0], [0, 0.8, 0.1], [0.2, 1, 0.9], [1, 1, 1]] and stored["piece_steps"] == [
        1,
        2,
        1,
    ]
    assert Sampling(steps=8).path_for(done)[2].tolist() == [0, 0.8, 0.1]
    run = training_run(done)
    sample.main(
        [f"run={run.id}", f"runtime.runs={done.runtime.runs}", "n=4", "steps=8", *PLAIN, f"out={tmp_path / 'x.png'}"]
    )
    row = evaluate(run, parse(Evaluation, overrides(["n=20", "steps=8", "given=[tiny]"])))
    assert row["path"]["points"] == stored["points"] and 0 <= row["given_agreement"] <= 1
    model = network_of(run, "ema")
    model.save_pretrained(tmp_path / "hub")
    again = LatentForcing.from_pretrained(tmp_path / "hub")
    assert again.config.schedule == done.schedule
    assert again.images(range(4))[0].equal(model.images(range(4))[0])


def test_it_is_swept(done: Training, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("path.yaml").write_text(POINTS)
    Path("three.py").write_text(SWEEP)
    words = [*WORDS, *PLAIN, LATENTS, "evaluation.n=20", f"runtime.runs={place}"]
    with inline():
        launch.main(["three.py", *words, "--executor=local"])
    cells = json.loads((place / "sweeps" / "three" / "sweep.json").read_text())["cells"]
    assert {cell["training_id"] for cell in cells} == {training_run(done).id}, "the file's name is no part of it"
    rows = [json.loads((place / "evaluation" / c["evaluation_id"] / "row.json").read_text()) for c in cells]
    assert rows[0]["path"].get("order") is None, "it is the order without being asked"
    assert rows[1]["path"]["order"] == [["pixels"], ["tiny", "pixels_latent"]]
    assert (place / "sweeps" / "three" / "paths.png").exists() and torch.tensor(
        [r["fd"] for r in rows]
    ).isfinite().all()


def labels_of(figure: Figure) -> set[tuple[str, ...]]:
    return {tuple(re.findall(r"[a-z_]{4,}", f"{ax.get_xlabel()} {ax.get_ylabel()}")) for ax in figure.axes} - {()}


def test_its_figures_show_every_two_streams_by_name(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it was swept."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    frame = load("three", place)
    pairs = {("pixels", "tiny"), ("pixels", "pixels_latent"), ("tiny", "pixels_latent")}
    found = load_file(probing.probe("three", place))
    assert found["film"].shape[1:] == (3, 6, 3, 16, 16) and found["psnr"].shape == (3, 10, 10)
    drawn = figures.draw(frame, place)
    told = ["cascaded tiny → pixels_latent → pixels", "cascaded pixels → tiny + pixels_latent"]
    assert list(schedules.followed(frame, place)) == told
    assert labels_of(drawn["densities"]) == pairs
    assert {pair[:1] + pair[2:3] for pair in labels_of(drawn["paths"])} == pairs, "with (1 = clean)"
    (ax,) = (ax for ax in drawn["snr"].axes if ax.get_legend())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["pixels", "tiny", "pixels_latent"]
    assert {"cross_psnr", "difficulty", "structure", "film"} <= {*drawn}
    whole = page.page(frame, place)
    assert whole.count("<figcaption>") == len(drawn) and whole.count('class="slide"') == 3
    assert "seed 0: t pixels 1.00, t tiny 1.00, t pixels_latent 1.00</label>" in whole, "it starts at the end"
    assert drawn["difficulty"].axes[0].get_ylabel() == "$t$ latents"
    label, images = probe.film(frame, place)[-1]
    assert label == "t pixels 1.00, t tiny 1.00, t pixels_latent 1.00" and images.shape == (18, 3, 16, 16)
    assert (
        "the latents tell up to" in probe.findings(frame)[0] and "dB of the pixels_latent" in probe.findings(frame)[0]
    )
