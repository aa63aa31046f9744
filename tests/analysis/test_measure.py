"""What is measured of a trained network, and the figures of it."""

from pathlib import Path

import pytest
import torch
from made import made
from safetensors.torch import load_file
from toy import LATENT, training

import analysis
from analysis import export, figures, results
from analysis import probe as probing
from analysis.figures import probe
from lf.core.errors import UserError
from lf.train import train


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a made-up sweep, one training of which is real."""
    place = tmp_path_factory.mktemp("store")
    row = train(training(LATENT, "schedule=independent", "steps=150", f"runtime.runs={place}"))

    made(place, "order_ablation", (0,))
    file = place / "sweeps" / "order_ablation" / "sweep.json"
    taken = analysis.load("order_ablation", place).training_id.iloc[0]
    file.write_text(file.read_text().replace(taken, row["id"]))
    for other in analysis.load("order_ablation", place).training_id.unique():
        if other != row["id"]:
            (place / "training" / other / "row.json").unlink()
    return place


def test_the_square_and_the_film_are_stored_small_and_drawn_without_the_network(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    frame = analysis.load("order_ablation", store)
    assert not probe.figures(frame, store) and not probe.film(frame, store)
    file = probing.probe("order_ablation", store)
    assert file == store / "reports" / "order_ablation" / "measured.safetensors" and not list(tmp_path.iterdir())
    found = load_file(file)
    assert file.stat().st_size < 500_000
    psnr = found["psnr"]
    assert (psnr[0, -1] > psnr[0, 0]).all() and psnr[0, 0, -1] > psnr[0, 0, 0], "less noise, a better prediction"
    assert (found["unexplained"][:, -1, -1] < found["unexplained"][:, 0, 0]).all()
    assert found["structure"].abs().max() <= 1 and found["structure"][-1, -1] > found["structure"][0, 0]
    assert torch.equal(found["film_times"][0], torch.zeros(2)) and torch.equal(found["film_times"][-1], torch.ones(2))
    assert found["film"].shape[1:] == (2, 6, 3, 16, 16) and found["film"][0].float().std() > 20
    again = load_file(probing.probe("order_ablation", store))
    assert all(torch.equal(again[name], value) for name, value in found.items()), "the same each time"

    exported = export.export("order_ablation", store) / "measured.safetensors"
    assert exported == tmp_path / "order_ablation" / "measured.safetensors"
    assert exported.read_bytes() == file.read_bytes()
    written = {file.stem for file in figures.write(figures.draw(frame, store), tmp_path / "figures")}
    assert {"cross_psnr", "difficulty", "structure", "film"} <= written
    assert len(probe.film(frame, store)) == len(found["film"])
    gained, kept = probe.findings(frame)
    assert f"up to {(found['psnr'][0] - found['psnr'][0][:, :1]).max():.1f} dB of the pixels" in gained
    assert f"{found['pair'][0]:.1f} dB and its edges correlate by {found['structure'][0, -1]:.2f}" in kept
    other = frame.assign(training_id="another")
    other.attrs = frame.attrs
    assert not probe.figures(other, store), "a measurement of a training that is not among the rows"


def test_nothing_to_measure_is_one_line(tmp_path: Path) -> None:
    place = made(tmp_path, "system", (0,))
    for file in place.glob("training/*/row.json"):
        file.unlink()
    with pytest.raises(UserError, match="system: no training with a latent is done"):
        probing.probe("system", place)
