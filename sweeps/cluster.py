"""What a cluster asks of a job: `cluster.toml`, in this folder or in the user's (`~/.config/lf/cluster.toml`).

[job]                      # what every job asks for
partition = "gpu"
account = "vision"
gpus = 1                   # a node
cpus = 8                   # a task
memory_gb = 64             # a node
hours = 24
[train]                    # what a training asks for instead
nodes = 2
tasks = 8                  # a node; each is a process of the training
gpus = 8
[evaluate]                 # what evaluations ask for instead
hours = 4
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lf.errors import UserError
from lf.values import Strict, merge, parse

if TYPE_CHECKING:
    from lf.config import Runtime  # it imports torch, and `sweeps.status` is to answer at once

NAME = "cluster.toml"
USER = Path.home() / ".config" / "lf" / NAME


class Shape(Strict):
    """What one kind of job asks for. What is not given is left to the cluster's defaults."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    nodes: int = Field(1, ge=1)
    tasks: int = Field(1, ge=1, description="processes a node; they share one training or evaluation")
    gpus: int = Field(0, ge=0, description="a node")
    cpus: int = Field(1, ge=1, description="a task")
    memory_gb: float = Field(0, ge=0, description="a node; 0: the cluster's default")
    hours: float = Field(24, gt=0, description="time limit; a job that reaches it goes on in a new one")
    parallel: int = Field(100, ge=1, description="jobs of one array that run at a time")
    signal_s: int = Field(90, ge=1, description="seconds before the limit at which a job saves and is queued again")
    setup: tuple[str, ...] = Field((), description="lines of shell before the job, such as 'module load cuda'")
    extra: dict[str, Any] = Field({}, description="other options of sbatch, such as {reservation = 'paper'}")

    def parameters(self, **more: Any) -> dict[str, Any]:
        """As submitit takes them."""
        given = {"partition": self.partition, "account": self.account, "qos": self.qos, "constraint": self.constraint}
        options: dict[str, Any] = {f"slurm_{key}": value for key, value in given.items() if value}
        if self.memory_gb:
            options["mem_gb"] = self.memory_gb
        if self.gpus:
            options["gpus_per_node"] = self.gpus
        return options | {
            "nodes": self.nodes,
            "tasks_per_node": self.tasks,
            "cpus_per_task": self.cpus,
            "timeout_min": max(1, round(self.hours * 60)),
            "slurm_signal_delay_s": self.signal_s,
            "slurm_array_parallelism": self.parallel,
            "slurm_additional_parameters": {**self.extra, **more},
        }


class Cluster(Strict):
    """A cluster's profile."""

    job: dict[str, Any] = Field({}, description="what every job asks for")
    train: dict[str, Any] = Field({}, description="what a training asks for instead")
    evaluate: dict[str, Any] = Field({}, description="what evaluations ask for instead")
    evaluations: int = Field(0, ge=0, description="evaluations a job; 0: all of one training")
    runs: str = Field("", description="the run store; its place on the shared file system")
    data: dict[str, str] = Field({}, description="data sets by a name of your own: data=NAME then stands for it")
    retries: int = Field(3, ge=0, description="how often a cell that was lost is tried again")
    max_array: int = Field(1000, ge=1, description="cells in one array; the cluster's own limit holds as well")

    def placed(self, runtime: "Runtime") -> "Runtime":
        """``runtime`` with this profile's run store, unless it names one itself."""
        here = "runs" in runtime.model_fields_set or not self.runs
        return runtime if here else runtime.model_copy(update={"runs": self.runs})

    def shape(self, kind: str) -> Shape:
        """What a job of ``kind`` asks for: ``train``, ``evaluate``, or ``search``, which evaluates."""
        return parse(Shape, merge(self.job, self.train if kind == "train" else self.evaluate), where=f"{NAME}: {kind}")


def load(overrides: Mapping[str, Any], folder: Path | None = None) -> tuple[Cluster, str]:
    """The profile and where it was found: ``cluster.toml`` of this folder, else the user's, else defaults.

    Args:
        overrides: values over the file's, such as ``{"train": {"nodes": 2}}``.
        folder: where to look first; the working directory by default.

    Raises:
        UserError: a file that is no TOML, an unknown key or a bad value.
    """
    file = next((f for f in ((folder or Path()) / NAME, USER) if f.is_file()), None)
    try:
        values = tomllib.loads(file.read_text()) if file else {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{file}: {error}") from None
    cluster = parse(Cluster, merge(values, overrides), where=str(file or "cluster"))
    for kind in ("train", "evaluate"):
        cluster.shape(kind)  # a mistake is said now
    return cluster, str(file) if file else f"defaults (no {NAME} here)"
