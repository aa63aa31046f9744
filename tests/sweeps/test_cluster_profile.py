"""What a cluster asks of a job: `cluster.toml`, and what sbatch is given of it. SLURM's commands are stood in for."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy import PLAIN, WORDS, refusal

from lf.core.errors import UserError
from sweeps import launch
from sweeps.jobs import profile as clusters
from sweeps.jobs import slurm
from sweeps.jobs.executors import Slurm
from sweeps.jobs.profile import Cluster, Shape
from sweeps.plan import Plan, plan
from sweeps.questions import order_ablation

EXAMPLES = sorted((Path(launch.__file__).parent / "clusters").glob("*.toml"))
SWEEP = [*WORDS, *PLAIN, "evaluation.n=32", "evaluation.steps=4"]


class Commands:
    """SLURM's commands as scripts that answer, and remember what they were asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, answer in {
            "sbatch": f'cp "$1" {folder}/submitted-$(wc -l <{folder}/calls); '
            f'echo "Submitted batch job $(wc -l <{folder}/calls)000"',
            "scontrol": 'echo "MaxArraySize = 8"',
            "squeue": "true",
            "srun": "true",
        }.items():
            (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{folder}/calls\n{answer}\n')
            (folder / name).chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """The commands in order."""
        file = self.folder / "calls"
        return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def asked(self) -> list[dict[str, str]]:
        """The options of every job file that sbatch was given, in order."""
        files = sorted(self.folder.glob("submitted-*"), key=lambda file: int(file.name.partition("-")[2]))
        found = []
        for file in files:
            words = [shlex.split(line)[1] for line in file.read_text().splitlines() if line.startswith("#SBATCH ")]
            options = dict(word.removeprefix("--").partition("=")[::2] for word in words)
            found.append(options | {"script": file.read_text()})
        return found


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """SLURM's commands, stood in for, on PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    slurm.slurm_unavailable_reason.cache_clear()
    slurm.max_array.cache_clear()
    yield Commands(tmp_path / "bin")
    slurm.slurm_unavailable_reason.cache_clear()
    slurm.max_array.cache_clear()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, and a user's folder; returns the file in the latter."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(clusters, "USER", tmp_path / "user" / clusters.NAME)
    clusters.USER.parent.mkdir()
    return clusters.USER


def planned(runs: Path, *words: str) -> Plan:
    asked = launch.settings([*SWEEP, f"runtime.runs={runs}", *words])
    return plan(order_ablation.cells(asked), asked.resolved)


def submitted(profile: Cluster, tmp_path: Path, *words: str) -> None:
    Slurm(tmp_path / "runs" / "sweeps" / "some", profile, tmp_path / "code").submit(
        planned(tmp_path / "runs", *words).train_evals
    )


# --- the file


def test_without_a_file_the_cluster_s_own_defaults_hold(home: Path) -> None:
    profile, where = clusters.load({})
    assert profile == Cluster() and where.startswith("defaults")
    assert profile.shape("train") == profile.shape("evaluate") == Shape()


def test_the_project_s_file_comes_before_the_user_s(home: Path) -> None:
    home.write_text("retries = 7\n")
    assert clusters.load({}) == (Cluster(retries=7), str(home))
    Path(clusters.NAME).write_text("retries = 1\n")
    assert clusters.load({}) == (Cluster(retries=1), clusters.NAME)


def test_a_kind_of_job_asks_for_what_its_table_says_over_what_all_ask_for(home: Path) -> None:
    home.write_text(
        "[job]\npartition = 'gpu'\ngpus = 1\nextra = {nice = 1}\n[train]\ngpus = 8\nextra = {comment = 'a'}\n"
    )
    profile, _ = clusters.load({"train": {"nodes": 2}})
    train, evaluate = profile.shape("train"), profile.shape("evaluate")
    assert (train.partition, train.gpus, train.nodes, train.extra) == ("gpu", 8, 2, {"nice": 1, "comment": "a"})
    assert (evaluate.partition, evaluate.gpus, evaluate.nodes, evaluate.extra) == ("gpu", 1, 1, {"nice": 1})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("retrys = 3", ["retrys: unknown key", "did you mean 'retries'?"]),
        ("[job]\npartion = 'gpu'", ["partion: unknown key", "did you mean 'partition'?"]),
        ("[train]\nnode = 2", ["train.node: unknown key", "did you mean 'nodes'?"]),
        ("[evaluate]\nhours = 'long'", ["evaluate.hours='long'"]),
        ("[job]\nnodes = 0", ["nodes=0", "greater than or equal to 1"]),
        ("[job]\nmemory_gb = '64GB'", ["memory_gb='64GB'"]),
        ("[job]\nsetup = 'module load cuda'", ["setup='module load cuda'"]),
        ("job = 3", ["job=3"]),
        ("[job", ["cluster.toml"]),
    ],
)
@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_a_mistake_in_the_file_is_one_line_before_anything_is_done(
    home: Path, text: str, named: list[str], dry_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(clusters.NAME).write_text(text)
    said = refusal(launch.main, ["order_ablation", *SWEEP, f"runtime.runs={tmp_path / 'runs'}", *dry_run], capsys)
    assert clusters.NAME in said and all(name in said for name in named), said
    assert not (tmp_path / "runs").exists()


def test_a_word_goes_over_the_file_and_is_checked_like_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(launch.main, ["order_ablation", *SWEEP, "cluster.train.tsks=2", "--dry-run"], capsys)
    assert "train.tsks" in said and "'tasks'" in said


def test_the_run_store_and_the_data_are_where_the_file_says_unless_words_say_otherwise(home: Path) -> None:
    home.write_text("runs = '/shared/runs'\n[data]\nmine = 'folder:/shared/images'\n")
    profile, _ = clusters.load({})
    placed = launch.settings(["data=mine"]).placed(profile)
    assert placed.resolved.runs == "/shared/runs" and placed.train().data == "folder:/shared/images"
    placed = launch.settings(["data=digits", "runtime.runs=here"]).placed(profile)
    assert placed.resolved.runs == "here" and placed.train().data == "digits"


# --- what sbatch is given


def test_sbatch_is_given_what_each_kind_of_job_asks_for(commands: Commands, tmp_path: Path) -> None:
    profile = Cluster(
        job={
            "partition": "gpu", "account": "vision", "qos": "high", "constraint": "a100", "gpus": 1, "cpus": 6,
            "memory_gb": 64, "hours": 1.5, "signal_s": 120, "parallel": 3, "setup": ["module load cuda"],
            "extra": {"reservation": "paper", "exclusive": True},
        },
        train={"nodes": 2, "tasks": 4, "gpus": 4},
    )  # fmt: skip
    submitted(profile, tmp_path)
    train, evaluate = commands.asked
    for asked in (train, evaluate):
        assert asked["partition"] == "gpu" and asked["account"] == "vision" and asked["qos"] == "high"
        assert asked["constraint"] == "a100" and asked["cpus-per-task"] == "6" and asked["mem"] == "64GB"
        assert asked["time"] == "90" and asked["signal"] == "USR2@120" and asked["array"] == "0-3%3"
        assert asked["reservation"] == "paper" and "exclusive" in asked and asked["job-name"] == "lf-some"
        lines = asked["script"].splitlines()
        code = next(n for n, line in enumerate(lines) if line.startswith(f"export PYTHONPATH={tmp_path / 'code'}:"))
        assert lines.index("module load cuda") < code < next(n for n, line in enumerate(lines) if "srun" in line)
    assert (train["nodes"], train["ntasks-per-node"], train["gpus-per-node"]) == ("2", "4", "4")
    assert (evaluate["nodes"], evaluate["ntasks-per-node"], evaluate["gpus-per-node"]) == ("1", "1", "1")
    assert "dependency" not in train and re.fullmatch(r"aftercorr:\d+", evaluate["dependency"])


def test_what_is_not_given_is_left_to_the_cluster(commands: Commands, tmp_path: Path) -> None:
    submitted(Cluster(), tmp_path)
    for asked in commands.asked:
        assert not {"partition", "account", "qos", "constraint", "mem", "gpus-per-node", "exclude"} & asked.keys()


def test_no_array_is_longer_than_the_cluster_allows(commands: Commands, tmp_path: Path) -> None:
    submitted(Cluster(), tmp_path, "seeds=0-4")  # 20 trainings and as many jobs that evaluate; MaxArraySize = 8
    trains = [asked for asked in commands.asked if "dependency" not in asked]
    assert [asked["array"] for asked in trains] == ["0-6%7", "0-6%7", "0-5%6"]
    behind = [asked for asked in commands.asked if "dependency" in asked]
    assert [asked["array"] for asked in behind] == [asked["array"] for asked in trains]
    assert commands.calls.count("sbatch") == 6 and commands.calls.count("scontrol") == 1
    assert len({asked["dependency"] for asked in behind}) == 3, "each waits for its own"


def test_no_array_is_longer_than_the_profile_allows(commands: Commands, tmp_path: Path) -> None:
    submitted(Cluster(max_array=3), tmp_path)
    assert [asked["array"] for asked in commands.asked if "array" in asked] == ["0-2%3"] * 2
    single = [asked for asked in commands.asked if "array" not in asked]
    assert len(commands.asked) == 4 and len(single) == 2, "the fourth training is a job by itself"
    assert [asked.get("dependency", "").partition(":")[0] for asked in single] == ["", "afterok"]


# --- the shipped examples


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_a_shipped_example_is_valid_and_says_what_it_is_for(
    file: Path, home: Path, commands: Commands, tmp_path: Path
) -> None:
    Path(clusters.NAME).write_text(file.read_text())
    profile, _ = clusters.load({})
    submitted(profile, tmp_path)
    assert file.read_text().startswith("# ") and "cluster.toml" in file.read_text()
    train, evaluate = profile.shape("train"), profile.shape("evaluate")
    assert train.gpus == train.tasks, "a process for each GPU"
    assert commands.asked[0]["gpus-per-node"] == str(train.gpus) and commands.asked[0]["nodes"] == str(train.nodes)
    assert commands.asked[-1]["gpus-per-node"] == str(evaluate.gpus)


def test_the_examples_show_every_key(home: Path) -> None:
    assert {file.stem for file in EXAMPLES} == {"one_gpu", "one_node_8_gpus", "several_nodes"}
    shown = {word for file in EXAMPLES for word in re.findall(r"^\[?(\w+)", file.read_text(), re.M)}
    assert shown - {"imagenet"} == {*Cluster.model_fields, *Shape.model_fields}


def test_a_bad_override_of_an_example_is_refused(home: Path) -> None:
    Path(clusters.NAME).write_text(EXAMPLES[0].read_text())
    with pytest.raises(UserError, match="evaluate.hours"):
        clusters.load({"evaluate": {"hours": -1}})
