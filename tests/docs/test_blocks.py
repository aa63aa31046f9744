"""Every command of the README and of docs/ is run, or goes through its command's own parser.

All lines of shell blocks must be commands of this project, unless the page says why a block is not run. Their words
are parsed and nothing is started; runs, data and weights that they name are made up.
"""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from inline import inline
from pages import BLOCKS, CHECKED, PAGES, ROOT, RUN, SHELL, SMALL, Block, blocks_of, commands, own
from parsers import PARSERS, command
from toy import training

from analysis import load
from lf import schedules
from lf.config import Training
from lf.config.cli import config_over_preset
from lf.core.errors import UserError
from lf.train import train
from sweeps import launch
from sweeps.jobs import profile


def test_every_block_is_checked_or_says_why_it_is_not() -> None:
    silent, reasons = [], {}
    for block in BLOCKS:
        notes = {note.partition(":")[0] for note in block.notes}
        assert notes <= {"run", "file", "not run", "test command"}, f"{block}: {block.notes}"
        assert block.language in CHECKED, f"{block}: '{block.language}'; allowed: {', '.join(CHECKED)}"
        if block.language in SHELL:
            others = [line for line in block.lines if own(line) is None]
            if reason := block.note("not run"):
                reasons[str(block)] = reason
                assert others, f"{block}: all of it can be parsed, and it says that it is not run"
            elif others and not notes & {"run", "test command"}:
                silent.append(f"{block}: {others[0]}")
        elif block.language == "python" and not notes & {"run", "file"}:
            silent.append(f"{block}: neither run nor written to a file")
    print(*(f"{block}: not run: {reason}" for block, reason in reasons.items()), sep="\n")
    assert all(len(reason.split()) > 1 for reason in reasons.values()), reasons
    assert not silent, "\n".join(silent)


@pytest.mark.parametrize(("page", "module", "words"), [*commands()])
def test_a_command_is_understood_by_its_own_parser(
    page: Path, module: str, words: list[str], at: Callable[[Path], Path]
) -> None:
    at(page)
    if "--help" in words:
        with pytest.raises(SystemExit):
            command(module).main(words)
    else:
        PARSERS[module](words)


@pytest.mark.parametrize(
    "line",
    [
        "python -m lf.train latent=tiny",
        "python -m lf.train schedule=cascade",
        "python -m lf.train_tokenizer tokenizer.dims=8",
        "python -m lf.sample run=ID out_file=a.png",
        "python -m lf.evaluate run=ID guidance.kind=cfg guidance.scale.pixel=2",
        "python -m lf.convert a.pth out sched=cascaded",
        "python -m lf.data.prepare SOURCE OUT size=256",
        "python -m lf.encoders.cache dinov2 shards:PATH half=true",
        "python -m lf.encoders.whiten dinov3 shards:PATH",
        "python -m lf.metrics.make_reference shards:PATH",
        "python -m sweeps.launch order_ablation --dryrun",
        "python -m sweeps.launch order_ablations",
        "python -m sweeps.launch order_ablation cluster.job.gpu=2 --dry-run",
        "python -m sweeps.status order_ablation --follow",
        "python -m sweeps.guidance ID scale.dino=2",
        "python -m analysis.tables order_ablation results more",
    ],
)
def test_a_wrong_word_would_be_found(line: str, at: Callable[[Path], Path]) -> None:
    at(ROOT / "README.md")
    module, *words = own(line) or [""]
    with pytest.raises(UserError):
        PARSERS[module](words)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "toml"], ids=str)
def test_a_toml_block_is_a_cluster_profile_or_declares_plugins(block: Block, tmp_path: Path) -> None:
    values = tomllib.loads(block.text)
    if "project" in values:
        assert {*values["project"]["entry-points"]} <= {"lf.schedules", "lf.encoders"}
        assert block.note("file") == "pyproject.toml"
    else:
        (tmp_path / "cluster.toml").write_text(block.text)
        profile.load({}, tmp_path)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=str)
def test_a_yaml_block_is_a_preset_or_points(block: Block, at: Callable[[Path], Path]) -> None:
    at(block.page)
    if block.text.startswith("pixels:"):
        assert schedules.create("points", points=block.note("file")).over(["pixels", "tiny"]).path(50)[20, 0] == 0.05
    else:
        config_over_preset([f"preset={block.note('file')}"], Training, "training", None)


@pytest.mark.parametrize(("page", "name"), [("README.md", "my_sweep.py"), ("docs/extending.md", "three_orders.py")])
def test_a_question_that_orders_three_streams_runs(page: str, name: str, at: Callable[[Path], Path]) -> None:
    desk = at(ROOT / page)
    assert len((desk / name).read_text().splitlines()) <= 20
    with inline():
        launch.main([name, "budget=smoke", "runtime.runs=small", "runtime.latents=online", "--executor=local"])
    frame = load(Path(name).stem, Path("small"))
    assert len(frame) == frame.evaluation_id.nunique() in (2, 3) and frame.fd.notna().all()


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in SHELL and b.note("run") is not None], ids=str)
def test_a_shell_block_that_says_so_is_run(block: Block, at: Callable[[Path], Path]) -> None:
    desk = at(block.page)
    for line in block.lines:
        if words := own(line):
            small = SMALL[words[0]] if block.note("run") == "small" else []
            given = ["latents=[{name: tiny, steps: 3}]" if small and word == "latents=tiny" else word for word in words]
            command(words[0]).main([*given[1:], *small])
        elif block.note("not run") is None:
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            done = subprocess.run(["bash", "-euc", line], cwd=desk, env={**os.environ, "PATH": path}, timeout=120)
            assert done.returncode == 0, line


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of a second."""
    runs = tmp_path_factory.mktemp("trained")
    row = train(training("steps=2", f"runtime.runs={runs}"))
    return runs / "training" / str(row["id"])


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python" and b.note("run") is not None], ids=str)
def test_a_python_block_that_says_so_is_run(block: Block, at: Callable[[Path], Path], trained: Path) -> None:
    import matplotlib

    desk = at(block.page)
    matplotlib.use("agg")
    run = desk / "runs" / "training" / RUN
    if RUN in block.text and not run.exists():
        run.symlink_to(trained)
    exec(compile(block.text, str(block), "exec"), {"__name__": "block"})


def test_the_schedules_and_encoders_of_the_pages_pass_their_conformance_classes(desks: Callable[[Path], Path]) -> None:
    for page in PAGES:
        files = [name for b in blocks_of(page) if (name := b.note("file")) and name.startswith("test_")]
        if files:
            environment = {**os.environ, "PYTHONPATH": str(desks(page))}
            options = ["-q", "-p", "no:cacheprovider", "--rootdir=."]
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *options, *files],
                cwd=desks(page), env=environment, capture_output=True, text=True, timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr


def test_the_schedule_of_the_readme_passes_its_conformance_class(at: Callable[[Path], Path]) -> None:
    from lf import schedules
    from lf.schedules.conformance import ScheduleConformance

    at(ROOT / "README.md")
    checks = ScheduleConformance()
    checks.schedule = schedules.create("late")
    for name in dir(checks):
        if name.startswith("test_"):
            getattr(checks, name)()


def test_the_readme_names_the_test_command_for_ci() -> None:
    (block,) = (b for b in blocks_of(ROOT / "README.md") if b.note("test command") is not None)
    assert block.notes == ("test command",) and block.text == "pytest\n"
