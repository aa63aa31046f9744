"""`python -m sweeps.cancel NAME [TASK …] [runs=FOLDER]`: cancels the jobs of a sweep, or of some of its tasks.

    python -m sweeps.cancel order_ablation
    python -m sweeps.cancel order_ablation "tiny cascaded"

Their checkpoints are kept; ``sweeps.retry`` resumes them.
"""

from lf.core.cli import Parser, run_command
from sweeps.jobs import state
from sweeps.jobs.records import fail, job_of, kill, lives
from sweeps.jobs.slurm import scancel


def main(argv: list[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument("sweep", metavar="NAME")
    parser.add_argument("words", nargs="*", metavar="TASK or runs=FOLDER", help="by default all tasks")
    options = parser.parse_intermixed_args(argv)
    sweep, manifest, tasks = state.chosen(options.sweep, options.words)
    jobs = sweep.parents[1] / "jobs"
    found = state.states(sweep, manifest["units"], state.jobs_of(sweep, manifest))
    ended = [task for task in tasks if found[task["key"]].name not in state.FINAL]
    for task in ended:
        fail(jobs / task["key"], "cancelled", "by sweeps.cancel")
    under_way = [job for task in ended if (job := job_of(jobs / task["key"]))]
    if manifest["executor"] == "slurm":
        scancel(job["job"] for job in under_way)
    else:
        kill({job["job"] for job in under_way if lives(job)})
    print(f"{len(ended)} tasks cancelled; sweeps.retry resumes them")


if __name__ == "__main__":
    run_command(main)
