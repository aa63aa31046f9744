"""What a launch would do, `--dry-run`, and what it refuses: nothing is run or written."""

from collections.abc import Callable
from pathlib import Path

import pytest
from order import CELLS, NAME, SWEEP, cells_of, settings_of
from toy import files, refusal

from sweeps import launch
from sweeps.plan import plan


@pytest.fixture
def dry(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What ``--dry-run`` prints."""

    def show(place: Path, *words: str) -> str:
        capsys.readouterr()
        launch.main([*SWEEP, "--dry-run", f"runtime.runs={place}", *words])
        return capsys.readouterr().out

    return show


def planned(out: str) -> list[str]:
    """The lines of the plan that stand for a training."""
    return [line for line in out.splitlines() if " seed " in line]


def test_a_dry_run_on_a_fresh_store_lists_new_cells_and_writes_nothing(tmp_path: Path, dry: Callable[..., str]) -> None:
    out = dry(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    assert len(planned(out)) == 4 and all(" new " in line for line in planned(out))
    assert "240 training steps and 576 images" in out


def test_a_dry_run_on_a_finished_store_lists_cached_cells_and_writes_nothing(
    done: Path, dry: Callable[..., str]
) -> None:
    before = files(done)
    out = dry(done)
    assert len(planned(out)) == 4 and all(" cached " in line for line in planned(out))
    assert "to do" not in out
    assert files(done) == before


def test_a_dry_run_names_the_field_that_made_a_training_new(done: Path, dry: Callable[..., str]) -> None:
    out = dry(done, "lr=2e-3")
    assert all(" new " in line and line.rstrip().endswith("lr 0.001→0.002") for line in planned(out))
    assert "240 training steps and 576 images" in out and " s/step" in out
    out = dry(done, "seeds=[0,1]")
    assert [" cached " in line for line in planned(out)] == [True] * 4 + [False] * 4
    assert all("seed 0→1" in line for line in planned(out)[4:])


def test_a_dry_run_names_the_field_that_made_an_evaluation_new(done: Path, dry: Callable[..., str]) -> None:
    out = dry(done, "evaluation.n=40")
    assert all(" cached " in line and "n 32→40" in line for line in planned(out))
    assert "0 training steps and 720 images" in out


def test_a_dry_run_names_what_is_running(copy: Path, dry: Callable[..., str]) -> None:
    first = cells_of(copy)[0].trained
    (first.folder / "row.json").unlink()
    with first.held():
        assert " running " in planned(dry(copy))[0]
    assert " begun " in planned(dry(copy))[0]


def test_a_part_of_the_cells_is_asked_for_by_their_titles(
    done: Path, dry: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = dry(done, "--only", "pixel_only", "seeds=[0,1]")
    assert [" cached " in line for line in planned(out)] == [True, False]
    assert "60 training steps and 32 images" in out
    words = [*SWEEP, "--dry-run", "--only", "pixel-only", f"runtime.runs={done}"]
    said = refusal(launch.main, words, capsys)
    assert "--only pixel-only: no such cell" in said and "the first one is 'tiny independent seed 0 shifted" in said


def test_the_list_names_the_sweep_and_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    launch.main(["--list"])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(NAME))
    assert "Does the order of denoising matter" in line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["order_ablatoin"], "order_ablation"),
        ([NAME, "stps=10"], "'steps'"),
        ([NAME, "evaluation.stps=4"], "'steps'"),
        ([NAME, "network.widht=4"], "'width'"),
        ([NAME, "workrs=2"], "'workers'"),
        ([NAME, "lr=fast"], "lr='fast'"),
        ([NAME, "steps=0"], "steps=0"),
        ([NAME, "evaluation.steps=5"], "steps=5"),
        ([NAME, "schedule=cascaded"], "schedule"),
        ([NAME, "preset=imagenet"], "imagenet256"),
        ([NAME, "preset=lf_l_200"], "imagenet256"),
        ([NAME, "data=digit"], "digits"),
        ([NAME, "data=folder:/nonesuch"], "/nonesuch"),
        ([NAME, "seeds=[]"], "seeds"),
        ([NAME, "--executor=slrm"], "slurm"),
        ([NAME, "nonsense"], "nonsense"),
        ([], NAME),
    ],
)
@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_bad_input_is_one_line_and_writes_nothing(
    words: list[str], named: str, dry_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*words, *dry_run] + ([f"runtime.runs={tmp_path / 'runs'}"] if words else [])
    assert named in refusal(launch.main, asked, capsys)
    assert not list(tmp_path.iterdir())


def test_slurm_without_a_cluster_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sbatch" in refusal(launch.main, [*SWEEP, "--executor=slurm", f"runtime.runs={tmp_path / 'runs'}"], capsys)


def test_what_is_left_out_stays_missing_in_the_sweep(copy: Path) -> None:
    asked = cells_of(copy)
    manifest = plan(launch.chosen(asked, "pixel_only"), settings_of(copy).resolved).manifest(asked)
    assert len(manifest["cells"]) == CELLS and [unit["kind"] for unit in manifest["units"]] == ["train", "evaluate"]
