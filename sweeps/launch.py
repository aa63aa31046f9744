"""`python -m sweeps.launch NAME [key=value …]`: runs a sweep, on SLURM where there is one, else on this machine.

Only what is missing is run. A key is a training key (``data=digits``, ``network.width=64``, ``steps=100``: the preset's
length, of which a question takes its share), or one of ``preset``, ``seeds``, ``evaluation.*``, ``runtime.*``,
``cluster.*`` (over cluster.toml), ``workers``, `budget_hours`.
On SLURM the launcher may go at any time (Ctrl-C, `--no-wait`): the jobs go on, `sweeps.status` tells how far they are,
and the same command follows again.
"""

import argparse
import inspect
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from lf import data
from lf.config import Training, help_of, merge, overrides, parse, preset
from lf.door import door
from lf.errors import UserError, nearest
from lf.evaluate import evaluate
from lf.presets import MODELS
from lf.train import train
from sweeps import cluster as clusters
from sweeps import state
from sweeps.failures import POLICY
from sweeps.follow import SHOWN, carry_out, console, on_slurm, share_cores
from sweeps.plan import Cell, Launch, Plan, forecast, plan, question, questions, why_new
from sweeps.preflight import preflight


def settings(words: Sequence[str]) -> Launch:
    """A launch from ``key=value`` words; training keys may be given bare."""
    given = overrides(words)
    known = {*Launch.model_fields, *Training.model_fields}
    for key in given:
        if key not in known:
            raise UserError(f"{key}: unknown key; {nearest(key, known)}")
    bare = {
        key: given.pop(key) for key in list(given) if key in Training.model_fields and key not in ("runtime", "seed")
    }
    given["training"] = merge(given.get("training", {}), bare)
    launch = parse(Launch, given, "launch")
    preset(launch.preset)  # an unknown one is said here
    return launch


def workers_of(launch: Launch) -> int:
    """How many jobs run at a time on this machine."""
    return launch.workers or (1 if torch.cuda.is_available() else os.cpu_count() or 1)


def show(name: str, launch: Launch, planned: Plan) -> None:
    """The plan: every training with its cells, what is there, what made the rest new, and a forecast."""
    table = Table(
        "training", "state", "cells", "done", "what made it new", title=f"{name}, preset {launch.preset}", box=None
    )
    for (trained, cells), chain in list(zip(planned.trainings.items(), planned.chains, strict=True))[:SHOWN]:
        missing = [cell for cell in cells if cell.run.row is None]
        now = trained.state
        reason = why_new(trained) if now != "done" else why_new(missing[0].run) if missing else ""
        state_shown = "cached" if now == "done" else now
        title = chain.train.title if chain.train else cells[0].title
        table.add_row(title, state_shown, str(len(cells)), str(len(cells) - len(missing)), reason)
    console.print(table)
    if len(planned.trainings) > SHOWN:
        console.print(f"and {len(planned.trainings) - SHOWN:,} trainings more")
    if planned.steps or planned.images:
        console.print(
            f"{planned.steps:,} training steps and {planned.images:,} images to do{forecast(planned, launch)}"
        )


def chosen(cells: Sequence[Cell], only: str) -> list[Cell]:
    """The cells whose title or identity holds ``only``. Raises `UserError` if none does."""
    found = [cell for cell in cells if only in cell.title or only in cell.run.id]
    if not found:
        raise UserError(f"--only {only}: no such cell; one is called '{cells[0].title}'")
    return found


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        "python -m sweeps.launch", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.epilog = "\n".join(["keys:", *help_of(Launch), *help_of(Training)])
    parser.add_argument("sweep", nargs="?", help="name of the question")
    parser.add_argument("--list", action="store_true", help="name the sweeps")
    parser.add_argument("--all", action="store_true", help="every sweep, one after the other")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and start nothing")
    parser.add_argument("--wait", action=argparse.BooleanOptionalAction, default=True, help="follow the jobs (default)")
    # said by the job that tries again what is lost
    parser.add_argument("--kept", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--executor", help="auto, local or slurm")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cells whose title holds TEXT")
    parser.add_argument("--force", action="store_true", help="run the cells again; what is there is put aside")
    parser.add_argument("--fail-fast", action="store_true", help="end everything at the first failure")
    parser.add_argument("--local", metavar="CELL", default="", help="run one cell here, in this process, and stop")
    parser.add_argument("words", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(argv)
    if options.list:
        for name, module in questions().items():
            question_asked = module.__doc__.splitlines()[0]
            console.print(f"{name:<18} {question_asked}", highlight=False, soft_wrap=True)
        return
    if options.all and options.sweep:
        options.words.insert(0, options.sweep)
    if not options.all and not options.sweep:
        raise UserError("name a sweep, such as order_ablation; --list names them all")
    options.words += [f"executor={options.executor}"] if options.executor else []
    launch = settings(options.words)
    failed = [name for name in (questions() if options.all else [options.sweep]) if not one(name, options, launch)]
    if failed:
        raise SystemExit(1)


def one(asked_as: str, options: argparse.Namespace, launch: Launch) -> bool:
    """Launches one sweep; tells whether nothing of it failed."""
    name, module = question(asked_as)
    profile, where = clusters.load(launch.cluster)
    launch = launch.placed(profile)
    if not asked_as.endswith(".py") and launch.preset not in MODELS:
        raise UserError(f"preset={launch.preset}: the paper's questions know {nearest(launch.preset, MODELS)}")
    asked: list[Cell] = list(module.cells(launch))
    sample = asked[0].training
    data.digest(sample.data, sample.resolution)  # a missing data set is the first thing to know
    cells = chosen(asked, options.only or options.local)[: 1 if options.local else None]
    if options.force and not options.dry_run:
        for kept in {cell.run for cell in cells} | {cell.trained for cell in cells}:
            kept.put_aside()
    if options.local:
        train(cells[0].training)
        console.print_json(data=evaluate(cells[0].trained, cells[0].evaluation))
        return True
    slurm = on_slurm(launch.executor)
    runtime = launch.resolved if slurm else share_cores(launch.resolved, workers_of(launch))
    planned = plan(cells, runtime, profile.evaluations)
    if options.force and not options.dry_run:  # also what had stopped for good
        for unit in (unit for chain in planned.chains for unit in chain.units):
            (unit.folder / "failure.json").unlink(missing_ok=True)
    show(name, launch, planned)
    here = f"on this machine, {workers_of(launch)} jobs at a time"
    console.print(f"on SLURM, as {where} says" if slurm else here)
    if options.dry_run:
        return True
    words = [*options.words, *(["--only", options.only] if options.only else [])]
    again = str(Path(asked_as).absolute()) if asked_as.endswith(".py") else name
    about = {"sweep": name, "asked": again, "words": words, "question": inspect.getdoc(module) or ""}
    return run(about, options, launch, planned, asked, profile)


def run(
    about: dict[str, Any],
    options: argparse.Namespace,
    launch: Launch,
    planned: Plan,
    cells: Sequence[Cell],
    profile: clusters.Cluster,
) -> bool:
    """Submits a plan, follows it, and shows what came out; tells whether nothing of it failed.

    Args:
        about: what the manifest says of the sweep: its name, what was asked for and with which words, the question.
        options: of the command line.
        launch: the same, typed.
        planned: what is to be done.
        cells: all cells of the sweep, also those that were not asked for.
        profile: the cluster's.
    """
    name = about["sweep"]
    root, began, slurm = Path(launch.runtime.runs).absolute(), time.monotonic(), on_slurm(launch.executor)
    sweep = root / "sweeps" / name
    todo = [unit for chain in planned.chains for unit in chain.units if not unit.done]
    if todo:
        preflight(planned, launch, sweep)
    at = state.read(name, root)[1]["at"] if options.kept else time.time()  # how often something was lost counts on
    manifest = {**about, "at": at, **planned.manifest(cells)}
    if not carry_out(
        sweep, manifest, planned, profile, workers_of(launch),
        slurm=slurm, wait=options.wait, fail_fast=options.fail_fast,
    ):  # fmt: skip
        console.print(f"submitted; python -m sweeps.status {name} tells how far it is")
        return True
    from analysis import report  # what draws takes a second to import, and only here

    try:
        report.show(name, root, console)
    except Exception as error:  # such as cells of several budgets; that some failed must be said all the same
        console.print(f"no table: {type(error).__name__}: {error}", markup=False, soft_wrap=True)
    found = state.states(sweep, manifest["units"], {})
    failed = [unit for unit in manifest["units"] if found[unit["key"]].name != "done"]
    for unit in failed:
        now = found[unit["key"]]
        policy = POLICY.get(now.note.partition(":")[0], "")
        said = f"{now.name}: {unit['kind']} {unit['title']}: {now.note}" + (f" ({policy})" if policy else "")
        console.print(said, markup=False, soft_wrap=True)
    console.print(f"{len(todo) - len(failed)} jobs done, {len(failed)} failed, {time.monotonic() - began:.0f} s")
    if failed:
        console.print(f"python -m sweeps.logs {name} UNIT tells more, sweeps.retry {name} tries them again")
    return not failed


if __name__ == "__main__":
    door(main)
