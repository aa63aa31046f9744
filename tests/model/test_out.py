"""Where `lf.sample` writes, and how many steps it takes: known before anything is drawn."""

from pathlib import Path

import pytest
from toy import LATENT, PLAIN, refusal, training

from lf import sample
from lf.config import Training
from lf.evaluate import fitted
from lf.runs import TrainingRun, training_run
from lf.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    """A network that is hardly trained."""
    config: Training = training(LATENT, "steps=2", f"runtime.runs={tmp_path_factory.mktemp('runs')}")
    train(config)
    return training_run(config)


def words(run: TrainingRun, out: str) -> list[str]:
    return [f"run={run.id}", "n=2", "steps=2", f"runtime.runs={run.training.runtime.runs}", *PLAIN, f"out={out}"]


def test_a_missing_folder_is_made(run: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sample.main(words(run, "missing/x.png"))
    assert (tmp_path / "missing" / "x.png").stat().st_size > 100


@pytest.mark.parametrize(
    ("out", "said"), [("file/x.png", "file/x.png: "), ("x.pngg", "'.png'"), ("x", "suffix"), ("file", "exists")]
)
def test_what_cannot_be_written_is_refused_before_anything_is_drawn(
    out: str, said: str, run: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sample, "network_of", lambda *_: pytest.fail("it was begun"))
    assert said in refusal(sample.main, words(run, out), capsys)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_presets_steps_that_do_not_divide_the_path_become_the_next_that_do(
    run: TrainingRun, capsys: pytest.CaptureFixture[str]
) -> None:
    three = run.training.model_copy(update={"latents": run.training.latents * 2})
    config = sample.Command(run="x", path={"name": "cascaded"}, steps=20)  # type: ignore[arg-type]
    trained = TrainingRun(run.folder, run.config, three)
    assert fitted(config, trained, []).steps == 21
    assert "steps=20 of the preset does not divide the path; taken: 21" in capsys.readouterr().err
    assert fitted(config, trained, ["steps=20"]).steps == 20, "what was asked for is refused where it does not fit"
    assert fitted(config, run, []).steps == 20
