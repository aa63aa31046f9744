"""`python -m sweeps.launch NAME [key=value …]`: runs a sweep, on SLURM where there is one, else on this machine.

    python -m sweeps.launch order_ablation --dry-run
    python -m sweeps.launch order_ablation seeds=[0,1,2]
    python -m sweeps.launch my_sweep.py data=folder:PATH

Only missing runs are executed. A key is a training key (``data=digits``, ``network.width=64``, ``steps=100``: the
preset's length, of which a question uses a fraction), or one of ``preset``, ``seeds``, ``evaluation.*``, ``runtime.*``,
``cluster.*`` (overrides cluster.toml), ``workers``, ``budget_hours``.

On SLURM the launcher may be stopped at any time (Ctrl-C, ``--no-wait``): the jobs keep running, ``sweeps.status`` shows
their progress, and the same command monitors them again.
"""

import argparse
import inspect
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from lf import data
from lf.core.cli import Parser, run_command
from lf.core.errors import UserError, nearest
from lf.evaluate import evaluate
from lf.runs import why_new
from lf.storage.names import SHORT
from lf.train import train
from sweeps.cells import Cell, Launch, matches
from sweeps.forecast import duration, forecast, rates
from sweeps.jobs import profile as clusters
from sweeps.jobs import state
from sweeps.jobs.failures import POLICY
from sweeps.jobs.monitor import console, on_slurm, run_plan, share_cores
from sweeps.plan import Plan, by_training, plan
from sweeps.preflight import checked, fitted, preflight
from sweeps.presets import MODELS
from sweeps.questions import question, questions
from sweeps.recipe import recipe_of, workers_of
from sweeps.specialise import from_trunk

MOST_ROWS = 30  # trainings of a plan that are listed


def settings(words: Sequence[str]) -> Launch:
    """The launch settings of ``key=value`` words; training keys need no prefix."""
    return recipe_of(Launch, words, "launch")


def launch(
    sweep: str,
    words: Sequence[str] = (),
    *,
    only: str = "",
    dry_run: bool = False,
    wait: bool = True,
    force: bool = False,
    fail_fast: bool = False,
    resubmitted: bool = False,
) -> bool:
    """Runs the missing runs of a sweep, and shows the results.

    Args:
        sweep: name of a question, or a file of your own, ``my_sweep.py``.
        words: ``key=value`` as on the command line, such as ``["seeds=[0,1]", "budget=smoke"]``.
        only: run only the cells that these words mean, such as ``alpha 4`` (`sweeps.cells.matches`).
        dry_run: print the plan and start nothing.
        wait: on a cluster, monitor the jobs to their end.
        force: rerun the cells; their old runs are archived.
        fail_fast: cancel all jobs at the first failure.
        resubmitted: whether this is the job that resubmits vanished jobs; it does not reset the count of attempts.

    Returns:
        Whether nothing failed, table and report included.

    Raises:
        UserError: an unknown sweep, key or value, or a check that fails before the launch.
    """
    name, about, asked, profile, where, cells, plain = _asked(sweep, words)
    some = chosen(cells, only)
    if force and not dry_run:
        _archive(some)
    slurm, workers = on_slurm(asked.executor), workers_of(asked)
    runtime = asked.resolved if slurm else share_cores(asked.resolved, workers)
    planned = plan(some, runtime, profile.evaluations, cells)
    tasks = [task for train_eval in planned.train_evals for task in train_eval.tasks]
    if force and not dry_run:  # also those that failed
        for task in tasks:
            (task.folder / "failure.json").unlink(missing_ok=True)
    _show(name, asked, planned)
    if asked.from_ == "trunk":
        console.print(_saved(cells, plain, asked))
    console.print(f"on SLURM, profile: {where}" if slurm else f"on this machine, {workers} jobs at a time")
    if dry_run:
        return True
    root, began = Path(asked.runtime.runs).absolute(), time.monotonic()
    folder, missing = root / "sweeps" / name, sum(not task.done for task in tasks)
    if missing:
        preflight(planned, asked, folder)
    manifest: dict[str, Any] = {
        "sweep": name,
        "asked": str(Path(sweep).absolute()) if sweep.endswith(".py") else name,
        "words": [*words, *(["--only", only] if only else [])],
        "question": about,
        "at": state.read(name, root)[1]["at"] if resubmitted else time.time(),
        **planned.manifest(cells),
    }
    if not run_plan(
        folder, manifest, planned.train_evals, profile, workers, slurm=slurm, wait=wait, fail_fast=fail_fast
    ):
        console.print(f"submitted; python -m sweeps.status {name} shows the progress")
        return True
    return _finish(name, root, manifest, missing, time.monotonic() - began)


def run_cell(sweep: str, words: Sequence[str], only: str, force: bool = False) -> dict[str, Any]:
    """Trains and evaluates one cell in this process, for a debugger; returns its row. Arguments as of `launch`."""
    cells = _asked(sweep, words).cells
    cell = chosen(cells, only)[0]
    if force:
        _archive([cell])
    for trained in by_training([cell], cells)[0]:
        train(trained.training)
    return evaluate(cell.trained, cell.evaluation)


class Asked(NamedTuple):
    """A sweep's name, its question, the launch, the cluster's profile and its source; all cells, also from scratch."""

    name: str
    about: str
    launch: Launch
    profile: clusters.Cluster
    where: str
    cells: list[Cell]
    plain: list[Cell]


def _asked(sweep: str, words: Sequence[str]) -> Asked:
    asked = settings(words)
    name, module = question(sweep)
    profile, where = clusters.load(asked.cluster)
    asked = asked.placed(profile)
    if not sweep.endswith(".py") and asked.preset not in MODELS:
        raise UserError(f"preset={asked.preset}: the paper's questions support these presets: {', '.join(MODELS)}")
    plain = list(module.cells(asked))
    cells, steps = fitted(list(from_trunk(plain, asked)), asked)
    if steps != (usual := asked.evaluate().steps):
        console.print(f"evaluation.steps={usual} of the preset does not divide all paths; taken: {steps}")
    checked(name, cells)
    sample = cells[0].training
    data.digest(sample.data, sample.resolution)  # a missing data set fails first
    return Asked(name, inspect.getdoc(module) or "", asked, profile, where, cells, plain)


def _saved(cells: Sequence[Cell], plain: Sequence[Cell], asked: Launch) -> str:
    """What a launch with ``from=trunk`` trains in all, and what ``plain`` would."""
    steps, scratch = (sum(trained.training.steps for trained in by_training(some)[0]) for some in (cells, plain))
    said = f"from=trunk: {steps:,} training steps in all, trunks included; from scratch {scratch:,}"
    if cost := rates(Path(asked.resolved.runs)):
        whole, part = (duration(each * cost["step"] / 3600) for each in (scratch, steps))
        said += f" ({part} of one worker instead of {whole})"
    return said


def _archive(cells: Sequence[Cell]) -> None:
    for run in {cell.run for cell in cells} | {cell.trained for cell in cells}:
        run.archive()


def chosen(cells: Sequence[Cell], only: str) -> list[Cell]:
    """The cells that ``only`` means (`sweeps.cells.matches`); all if it is empty. Raises `UserError` if none is."""
    found = [cell for cell in cells if not only or matches(cell, only)]
    if not found:
        words = {word for cell in cells for name, value in cell.labels.items() for word in (name, str(value))}
        close = f" {nearest(only, words)};" if len(only.split()) == 1 else ""
        raise UserError(f"--only {only}: no such cell;{close} the first one is '{cells[0].title}'")
    return found


def _show(name: str, asked: Launch, planned: Plan) -> None:
    """Prints the plan: every training with its cells, which runs exist, what makes the others new, and a forecast."""
    table = Table(
        "run", "training", "state", "cells", "done", "new because of", title=f"{name}, preset {asked.preset}", box=None
    )
    for (trained, cells), train_eval in list(zip(planned.trainings.items(), planned.train_evals, strict=True))[
        :MOST_ROWS
    ]:
        missing = [cell for cell in cells if cell.run.row is None]
        now = trained.state
        reason = why_new(trained) if now != "done" else why_new(missing[0].run) if missing else ""
        title = train_eval.train.title if train_eval.train else cells[0].title
        done = str(len(cells) - len(missing))
        table.add_row(trained.id[:SHORT], title, "cached" if now == "done" else now, str(len(cells)), done, reason)
    console.print(table)
    if len(planned.trainings) > MOST_ROWS:
        console.print(f"and {len(planned.trainings) - MOST_ROWS:,} more trainings")
    if planned.steps or planned.images:
        console.print(f"{planned.steps:,} training steps and {planned.images:,} images to do{forecast(planned, asked)}")


def _finish(name: str, root: Path, manifest: dict[str, Any], missing: int, seconds: float) -> bool:
    """Shows table, report and failures; returns whether nothing failed, table and report included."""
    shown = True
    try:
        from analysis import report  # imported here only: plotting libraries take a second

        report.show(name, root, console)
    except Exception as error:  # the failures must be shown in any case
        shown = False
        console.print(f"no table or report: {type(error).__name__}: {error}", markup=False, soft_wrap=True)
    found = state.states(root / "sweeps" / name, manifest["units"], {})
    failed = [task for task in manifest["units"] if found[task["key"]].name != "done"]
    for task in failed:
        now = found[task["key"]]
        policy = POLICY.get(now.note.partition(":")[0], "")
        said = f"{now.name}: {task['kind']} {task['title']}: {now.note}" + (f" ({policy})" if policy else "")
        console.print(said, markup=False, soft_wrap=True)
    console.print(f"{missing - len(failed)} jobs done, {len(failed)} failed, {seconds:.0f} s")
    if failed:
        console.print(
            f"python -m sweeps.logs {name} TASK shows the error and the log, sweeps.retry {name} resubmits them",
            soft_wrap=True,
        )
    return shown and not failed


def main(argv: list[str]) -> None:
    parser = Parser(__doc__, lambda words: settings(words).explained())
    parser.add_argument("sweep", nargs="?", metavar="NAME", help="name of the question, or my_sweep.py")
    parser.add_argument("--list", action="store_true", help="list the questions")
    parser.add_argument("--all", action="store_true", help="every question, one after the other")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and start nothing")
    parser.add_argument("--wait", action=argparse.BooleanOptionalAction, default=True, help="monitor the jobs")
    parser.add_argument("--resubmitted", action="store_true", help=argparse.SUPPRESS)  # set by the job that resubmits
    parser.add_argument("--executor", help="auto, local or slurm")
    parser.add_argument(
        "--only",
        default="",
        metavar="WORDS",
        help="only the cells with these words in their title or labels, such as 'tiny, alpha 4'",
    )
    parser.add_argument("--force", action="store_true", help="rerun the cells; their old runs are archived")
    parser.add_argument("--fail-fast", action="store_true", help="cancel all jobs at the first failure")
    parser.add_argument("--local", metavar="CELL", default="", help="run one cell in this process, for debugging")
    parser.add_argument("words", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(argv)
    if options.list:
        for name, module in questions().items():
            console.print(f"{name:<18} {module.__doc__.splitlines()[0]}", highlight=False, soft_wrap=True)
        return
    if options.all and options.sweep:
        options.words.insert(0, options.sweep)
    if not options.all and not options.sweep:
        raise UserError("name a sweep, such as order_ablation; --list lists them")
    words = [*options.words, *([f"executor={options.executor}"] if options.executor else [])]
    names = list(questions()) if options.all else [options.sweep]
    if options.local:
        console.print_json(data=run_cell(names[0], words, options.only or options.local, options.force))
        return
    failed = [
        name
        for name in names
        if not launch(
            name, words, only=options.only, dry_run=options.dry_run, wait=options.wait, force=options.force,
            fail_fast=options.fail_fast, resubmitted=options.resubmitted,
        )
    ]  # fmt: skip
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
