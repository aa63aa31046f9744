"""What jobs request from the cluster: `cluster.toml`, in this folder or in `~/.config/lf/cluster.toml`.

[job]                      # resources of every job
partition = "gpu"
account = "vision"
gpus = 1                   # per node
cpus = 8                   # per process
memory_gb = 64             # per node
hours = 24
[train]                    # what differs for trainings
nodes = 2
tasks = 8                  # processes per node
gpus = 8
[evaluate]                 # what differs for evaluations
hours = 4
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lf.core.errors import UserError
from lf.core.parsing import Strict, merge, parse

if TYPE_CHECKING:
    from lf.core.runtime import Runtime  # not at import: `sweeps.status` must start fast

NAME = "cluster.toml"
USER = Path.home() / ".config" / "lf" / NAME


class Shape(Strict):
    """Resources of one kind of job. For those that are not set, the cluster's defaults apply."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    nodes: int = Field(1, ge=1, description="nodes of a job")
    tasks: int = Field(1, ge=1, description="processes per node; they share one training or evaluation")
    gpus: int = Field(0, ge=0, description="per node")
    cpus: int = Field(1, ge=1, description="per process")
    memory_gb: float = Field(0, ge=0, description="per node; 0: the cluster's default")
    hours: float = Field(24, gt=0, description="time limit; a job that reaches it is requeued and resumes")
    parallel: int = Field(100, ge=1, description="jobs of one array that run at a time")
    signal_s: int = Field(90, ge=1, description="seconds before the limit at which a job checkpoints and is requeued")
    setup: tuple[str, ...] = Field((), description="shell commands before the job, such as 'module load cuda'")
    extra: dict[str, Any] = Field({}, description="other options of sbatch, such as {reservation = 'paper'}")

    def parameters(self, **more: Any) -> dict[str, Any]:
        """The parameters of submitit's executor."""
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

    job: dict[str, Any] = Field({}, description="resources of every job")
    train: dict[str, Any] = Field({}, description="what differs for trainings")
    evaluate: dict[str, Any] = Field({}, description="what differs for evaluations")
    evaluations: int = Field(0, ge=0, description="evaluations per job; 0: all of one training")
    runs: str = Field("", description="folder of the run store, on the shared file system")
    data: dict[str, str] = Field({}, description="names for data sets, to be used as data=NAME")
    retries: int = Field(3, ge=0, description="how often a vanished job is resubmitted")
    max_array: int = Field(1000, ge=1, description="jobs in one array; the cluster's own limit also applies")

    def placed(self, runtime: "Runtime") -> "Runtime":
        """``runtime`` with this profile's run store, unless ``runtime`` sets one itself."""
        here = "runs" in runtime.model_fields_set or not self.runs
        return runtime if here else runtime.model_copy(update={"runs": self.runs})

    def shape(self, kind: str) -> Shape:
        """The resources of a job of ``kind``: ``train``, ``evaluate``, or ``search`` (as ``evaluate``)."""
        return parse(Shape, merge(self.job, self.train if kind == "train" else self.evaluate), where=f"{NAME}: {kind}")


def load(overrides: Mapping[str, Any], folder: Path | None = None) -> tuple[Cluster, str]:
    """The profile and its source: ``cluster.toml`` of this folder, else the user's, else the defaults.

    Args:
        overrides: values that override the file's, such as ``{"train": {"nodes": 2}}``.
        folder: where to look first; by default the working directory.

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
        cluster.shape(kind)  # so that mistakes are reported now
    return cluster, str(file) if file else f"defaults (no {NAME} here)"
