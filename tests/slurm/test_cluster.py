"""That the cluster is a real one: what the tests of sweeps rely on, each thing by itself."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import submitit
from cluster import HERE, Cluster
from toy import PATIENCE

pytestmark = pytest.mark.slow


def executor(folder: Path, **parameters: object) -> submitit.AutoExecutor:
    """One that sends to the cluster; 20 minutes, so that a preemption does not count as a timeout."""
    made = submitit.AutoExecutor(folder / "%j", cluster="slurm")
    made.update_parameters(**{"timeout_min": 20, "slurm_partition": "main", **parameters})
    return made


class Counts:
    """Counts up to ``end``, one a tenth of a second; preempted, it goes on where it was."""

    def __init__(self, begun: Path, done: int = 0) -> None:
        self.begun, self.done = begun, done

    def __call__(self, end: int) -> tuple[int, int, str]:
        first = self.done
        for self.done in range(first, end):
            self.begun.write_text(str(self.done))
            time.sleep(0.1)
            if first == 0 and self.done > 5:
                time.sleep(600)  # only an interruption helps
        return first, end, os.environ.get("SLURM_RESTART_COUNT", "0")

    def checkpoint(self, end: int) -> submitit.helpers.DelayedSubmission:
        return submitit.helpers.DelayedSubmission(Counts(self.begun, self.done), end)


def where(value: int) -> tuple[int, str, str]:
    return value * value, os.environ["SLURM_JOB_ID"], os.environ["SLURMD_NODENAME"]


def test_a_job_runs_on_both_nodes_and_has_gpus(cluster: Cluster) -> None:
    said = cluster.run("srun", "--nodes=2", "--gres=gpu:2", "bash", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES")
    assert sorted(said.splitlines()) == ["n1 0,1", "n2 0,1"]


def test_the_nodes_names_are_addresses(cluster: Cluster) -> None:
    assert {line.split()[0] for line in cluster.run("getent", "ahostsv4", "n1", "n2").splitlines()} == {"127.0.0.1"}


def test_an_array_runs_as_many_at_a_time_as_it_may(cluster: Cluster, tmp_path: Path) -> None:
    log = tmp_path / "log"
    other = f"until [ $(grep -c start {log}) -ge 2 ]; do sleep .1; done"  # the first waits for a second
    script = f"echo start >>{log}; {other}; sleep 1; echo end >>{log}"
    job = cluster.sbatch(script, "--array=0-3%2")
    cluster.wait(lambda: len(queue := cluster.squeue(job)) == 4 and set(queue.values()) == {"COMPLETED"})
    running = most = 0
    for word in log.read_text().split():
        running += 1 if word == "start" else -1
        most = max(most, running)
    assert most == 2 and running == 0


def test_an_array_may_not_be_longer_than_max_array_size(cluster: Cluster) -> None:
    assert cluster.run("scontrol", "show", "config").split("MaxArraySize")[1].split()[1] == "1001"
    with pytest.raises(AssertionError, match="Invalid job array specification"):
        cluster.sbatch("true", "--array=0-1001")


def test_a_cancelled_job_is_cancelled_in_the_queue_and_in_accounting(cluster: Cluster) -> None:
    job = cluster.sbatch("sleep 600")
    cluster.wait(lambda: cluster.squeue(job).get(job) == "RUNNING")
    cluster.run("scancel", job)
    cluster.wait(lambda: cluster.squeue(job).get(job) == "CANCELLED")
    cluster.wait(lambda: cluster.sacct(job).get(job) == "CANCELLED")


@pytest.mark.slow
def test_a_requeued_job_starts_again_under_its_id(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.sbatch(f'echo "begun ${{SLURM_RESTART_COUNT:-0}}" >>{tmp_path}/log; sleep 600')
    cluster.wait((tmp_path / "log").exists)
    cluster.run("scontrol", "requeue", job)
    cluster.wait(lambda: (tmp_path / "log").read_text().split() == ["begun", "0", "begun", "1"])
    assert cluster.show(job)["Restarts"] == "1"
    cluster.run("scancel", job)


@pytest.mark.slow
def test_a_node_that_goes_loses_its_jobs_to_the_other_one(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.sbatch(f"echo $SLURMD_NODENAME >>{tmp_path}/log; sleep 600", "--nodes=1", "--exclude=n1")
    cluster.wait((tmp_path / "log").exists)
    cluster.stop_node("n2")
    assert cluster.node("n2").startswith("down")
    cluster.run("scontrol", "update", f"jobid={job}", "excnodelist=")
    cluster.wait(lambda: (tmp_path / "log").read_text().split() == ["n2", "n1"])
    cluster.run("scancel", job)
    cluster.start_node("n2")
    assert "n2" in cluster.run("srun", "--nodelist=n2", "bash", "-c", "echo $SLURMD_NODENAME")


def test_submitit_gives_results_and_an_arrays_too(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.active():
        jobs = executor(tmp_path, slurm_array_parallelism=2).map_array(where, [2, 3])
        squares, ids, nodes = zip(*(job.result() for job in jobs), strict=True)
    assert squares == (4, 9) and len(set(ids)) == 2 and set(nodes) <= {"n1", "n2"}
    assert jobs[0].job_id.endswith("_0") and shutil.which("sbatch") is None


@pytest.mark.slow
def test_a_preempted_job_goes_on_where_it_was(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.active():
        job = executor(tmp_path).submit(Counts(tmp_path / "begun"), 9)
        begun = tmp_path / "begun"
        cluster.wait(lambda: begun.exists() and int(begun.read_text() or 0) > 0)
        job._interrupt()
        # SLURM may kill `scontrol requeue` together with its job; submitit then writes an error, which the result of
        # the second start replaces. Sweeps read SLURM's states, never that file.
        cluster.wait(lambda: cluster.squeue(job.job_id).get(job.job_id) == "COMPLETED")
        first, end, restarts = job.result()
    assert first > 0 and end == 9 and restarts == "1"


def test_without_accounting_there_is_no_sacct(cluster_without_accounting: Cluster, tmp_path: Path) -> None:
    cluster = cluster_without_accounting
    assert shutil.which("sacct", path=cluster.env["PATH"]) is None
    assert cluster.run("srun", "bash", "-c", "command -v sacct || echo none").strip() == "none"
    with cluster.active():
        assert shutil.which("sbatch") and executor(tmp_path).submit(where, 3).result()[0] == 9


def test_two_clusters_know_nothing_of_each_other(cluster: Cluster, cluster_without_accounting: Cluster) -> None:
    job = cluster.sbatch("sleep 600")
    assert job in cluster.squeue() and job not in cluster_without_accounting.squeue()
    cluster.clear()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--acounting"], "--acounting"),
        (["--accounting", "--stand-in"], "--stand-in"),
        (["a folder"], "a folder"),
        (["one", "two"], "two"),
        (["/tmp/" + "a" * 90], "90 characters"),
    ],
)
def test_what_is_asked_wrongly_is_one_line_and_starts_nothing(words: list[str], named: str) -> None:
    done = subprocess.run([HERE / "start.sh", *words], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and named in done.stderr
    assert done.stderr.count("\n") == 1 and not done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="without root it installs nothing anyway")
def test_what_is_missing_is_not_installed_unless_asked_for(tmp_path: Path) -> None:
    (tmp_path / "lacks").write_text('command() { [[ $* != *slurmctld* ]] && builtin command "$@"; }')
    (tmp_path / "apt-get").write_text(f"#!/bin/sh\necho $* >>{tmp_path}/asked\nexit 1\n")
    (tmp_path / "apt-get").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "BASH_ENV": str(tmp_path / "lacks")}
    asked, place = [], Path(tempfile.mkdtemp(prefix="lf-slurm-")) / "c"  # a short name, as start.sh asks for
    for needed in ("0", "1"):
        done = subprocess.run([HERE / "start.sh", place], env=path | {"LF_NEED_SLURM": needed},
                              capture_output=True, text=True, timeout=PATIENCE)  # fmt: skip
        assert done.returncode == 3 and done.stderr.count("\n") == 1 and "slurmctld" in done.stderr
        assert ("LF_NEED_SLURM=1 installs it" in done.stderr) == (needed == "0")
        asked.append((tmp_path / "asked").exists())
        assert place.exists() == (needed == "1")
    shutil.rmtree(place.parent)
    assert asked == [False, True]


def test_started_again_it_changes_nothing_and_refuses_other_settings(cluster: Cluster) -> None:
    queue = cluster.squeue()
    cluster.start()
    assert cluster.squeue() == queue
    done = subprocess.run([HERE / "start.sh", cluster.folder], env=cluster.env, capture_output=True, text=True)
    assert done.returncode == 2 and "other settings" in done.stderr and done.stderr.count("\n") == 1


def ended(pid: int) -> bool:
    """Whether a process is no more, but for what its parent has not read of it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_after_a_crash_it_starts_again_and_job_ids_go_on(cluster_without_accounting: Cluster) -> None:
    cluster = cluster_without_accounting
    job = cluster.sbatch("sleep 600")
    daemons = [int((cluster.folder / f"{name}.pid").read_text()) for name in ("slurmctld", "slurmd-n1", "slurmd-n2")]
    for daemon in daemons:
        os.kill(daemon, 9)
    cluster.wait(lambda: all(map(ended, daemons)))
    cluster.start()
    assert int(cluster.sbatch("true")) > int(job)
    cluster.clear()
