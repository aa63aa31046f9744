"""`python -m sweeps.cancel NAME [UNIT …] [runs=FOLDER]`: ends the jobs of a sweep, or of some of its units, for good.

What they had saved stays; `sweeps.retry` takes them up again.
"""

import argparse

from lf.door import door
from sweeps import state
from sweeps.jobs import fail, job_of, kill, lives, scancel
from sweeps.logs import pick
from sweeps.status import store


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m sweeps.cancel", description=__doc__)
    parser.add_argument("sweep")
    parser.add_argument("words", nargs="*", metavar="UNIT or runs=FOLDER")
    options = parser.parse_intermixed_args(argv)
    which = [word for word in options.words if "=" not in word]
    sweep, manifest = state.read(options.sweep, store([word for word in options.words if "=" in word]))
    units = [unit for word in which for unit in pick(manifest, word)] if which else manifest["units"]
    jobs = sweep.parents[1] / "jobs"
    found = state.states(sweep, manifest["units"], state.jobs_of(sweep, manifest))
    ended = [unit for unit in units if found[unit["key"]].name not in state.FINAL]
    for unit in ended:
        fail(jobs / unit["key"], "cancelled", "by sweeps.cancel")
    under_way = [job for unit in ended if (job := job_of(jobs / unit["key"]))]
    if manifest["executor"] == "slurm":
        scancel(job["job"] for job in under_way)
    else:
        kill({job["job"] for job in under_way if lives(job)})
    print(f"{len(ended)} units cancelled; sweeps.retry takes them up again")


if __name__ == "__main__":
    door(main)
