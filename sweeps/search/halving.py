"""Finds an order: a trunk, short trainings from it, the better half of them trained on, and the best one to its end."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from lf.core.errors import UserError
from lf.runs import evaluation_run, training_run
from lf.storage.lease import lease
from sweeps.cells import Cell
from sweeps.forecast import forecast
from sweeps.jobs import profile as clusters
from sweeps.jobs.monitor import console, on_slurm, run_plan, share_cores
from sweeps.jobs.profile import Cluster
from sweeps.jobs.task import Task
from sweeps.plan import Plan, plan
from sweeps.recipe import recipe_of, workers_of
from sweeps.search.orders import OrderSearch, OrderSpace, order_space
from sweeps.search.space import Point
from sweeps.search.trials import Trials
from sweeps.search.workers import manifest_of, run_trials

QUESTION = """In which order should these streams be denoised?

One network of all orders, the trunk, is trained on for every order that is tried: all for a short while, the better
ones for longer, the best one to the end, where it is scored with fresh noise and a second seed, too."""


@dataclass
class OrderFound:
    """What a search for an order found.

    Attributes:
        trials: the orders that were tried, each for the shortest training.
        cells: every training of the search, with its evaluation.
        best: the best order; with several objectives, those of the Pareto front.
    """

    trials: Trials[OrderSpace]
    cells: list[Cell] = field(default_factory=list)
    best: list[Point] = field(default_factory=list)

    @property
    def space(self) -> OrderSpace:
        """What was searched."""
        return self.trials.space

    def row(self, point: Point, share: float, *, noise: int = 0, other: int = 0) -> dict[str, Any] | None:
        """The row of an order after a share of the preset's steps; None if it is missing. Arguments as of `_cell`."""
        cell = _cell(self.space, point, share, noise=noise, other=other)
        return evaluation_run(training_run(cell.training), cell.evaluation).row

    def ranked(self, points: Sequence[Point], share: float) -> list[list[Point]]:
        """Points that have a score at ``share``, best first, in fronts: none of a front is worse in all objectives."""
        directions = self.trials.search.directions
        signs = [1 if direction == "minimize" else -1 for direction in directions]
        scored = []
        for point in points:
            if row := self.row(point, share):
                values = self.trials.values(row)
                scored.append(([sign * value for sign, value in zip(signs, values, strict=True)], point))
        scored.sort(key=lambda pair: pair[0])
        fronts = []
        while scored:
            front = [pair for pair in scored if not any(_dominates(other[0], pair[0]) for other in scored)]
            fronts.append([point for _, point in front])
            scored = [pair for pair in scored if pair not in front]
        return fronts


def _dominates(one: list[float], other: list[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def find_order(words: Sequence[str], dry_run: bool = False) -> OrderFound | None:
    """Searches for the order of some streams; the same words resume the search.

    Args:
        words: ``key=value`` as on the command line, such as ``["latents=tiny", "trials=12"]``.
        dry_run: print what it costs and start nothing.

    Returns:
        What was found; None after a dry run.

    Raises:
        UserError: an unknown key, a bad value, or no training was finished.
        SystemExit: every worker stopped before all trials had ended.
    """
    asked = recipe_of(OrderSearch, words, "order")
    profile, where = clusters.load(asked.cluster)
    asked = asked.placed(profile)
    slurm, workers = on_slurm(asked.executor), workers_of(asked)
    runs = Path(asked.resolved.runs).absolute()
    runtime = asked.resolved.model_copy(update={"runs": str(runs)})
    asked = asked.on(runtime if slurm else share_cores(runtime, workers))
    space = OrderSpace(asked)
    space.first()  # bad points fail here
    console.print(budget(space), highlight=False)
    console.print(f"on SLURM, profile: {where}" if slurm else f"on this machine, {workers} jobs at a time")
    if dry_run:
        return None
    found = OrderFound(Trials(space, runs))
    manifest = manifest_of(found.trials, words, QUESTION)
    trunk = Task(space.trunk, (), "the trunk")
    run_trials(
        found.trials, partial(order_space, asked), space.trunk, asked.trials, workers, profile, manifest,
        slurm=slurm, after=trunk,
    )  # fmt: skip
    points = space.distinct([row["point"] for row in found.trials.rows() if row["state"] == "complete"])
    found.cells = [_cell(space, point, asked.shares[0]) for point in points]
    for before, share in pairwise(asked.shares):
        fronts = found.ranked(points, before)
        points = [point for front in fronts for point in front][: math.ceil(asked.keep * len(points))]
        _run(found, [_cell(space, point, share, before) for point in points], profile, workers, manifest, slurm)
    found.best = next(iter(found.ranked(points, asked.shares[-1])), [])
    if len(asked.objectives) == 1:  # equal scores are no front
        found.best = found.best[:1]
    if not found.best:
        raise UserError(f"{space.name}: no training was finished; python -m sweeps.logs {space.name} shows the errors")
    last = [
        cell
        for point in found.best
        for cell in (
            _cell(space, point, asked.end, asked.shares[-1]),
            _cell(space, point, asked.end, asked.shares[-1], noise=1),
            _cell(space, point, asked.end, other=1),
        )
    ]
    _run(found, last, profile, workers, manifest, slurm)
    return found


def budget(space: OrderSpace) -> str:
    """What a search costs, counted in full, in words."""
    asked, parts, whole = space.search, [f"the trunk {space.trunk.steps:,} steps"], space.trunk.steps
    left, images, before = asked.trials, 0, 0
    evaluations = asked.trials
    for share in asked.shares:
        left = left if not before else math.ceil(asked.keep * left)
        evaluations += left if before else 0
        steps = space.steps(share) - before
        parts.append(f"{left} orders {steps:,} {'more' if before else 'each'}")
        whole, before = whole + left * steps, space.steps(share)
    end = space.steps(asked.end)
    parts.append(f"the best one {end - before:,} more, and {end:,} with a second seed")
    whole, evaluations = whole + 2 * end - before, evaluations + 3
    images = evaluations * space.evaluation().n
    cost = Plan({}, [], whole, images, evaluations)
    return (
        f"{space.name}: {', '.join(parts)}: {whole:,} training steps, as many as {whole / space.trunk.steps:.1f} whole "
        f"trainings, and {images:,} images to do{forecast(cost, asked)}"
    )


def _cell(
    space: OrderSpace, point: Point, share: float, before: float = 0, *, noise: int = 0, other: int = 0
) -> Cell:  # fmt: skip
    """A training of a search and its evaluation.

    Args:
        space: what is searched.
        point: the order.
        share: length of the training, of the preset's steps.
        before: length of the training that it continues; 0: it begins from the trunk.
        noise: added to the seed of the images' noise.
        other: added to the seed of the training.
    """
    training = space.training(point, share, space.search.seed + other)
    evaluation = space.evaluation(**({"seed": space.evaluation().seed + noise} if noise else {}))
    labels = {"order": space.told(point), "share": share, "noise": evaluation.seed, "seed": training.seed}
    return Cell(labels, training, evaluation, space.training(point, before) if before else space.trunk)


def _run(
    found: OrderFound, cells: Sequence[Cell], profile: Cluster, workers: int, manifest: dict[str, Any], slurm: bool
) -> None:
    """Trains and evaluates what is missing of ``cells``, and adds them to the search."""
    runtime = found.space.recipe.runtime
    planned, earlier = plan(cells, runtime, profile.evaluations), plan(found.cells, runtime, profile.evaluations)
    found.cells += cells
    whole = planned.manifest(found.cells)
    before = {unit["key"]: unit for unit in earlier.manifest([])["units"]}
    whole["units"] = list((before | {unit["key"]: unit for unit in whole["units"]}).values())
    with lease(found.trials.folder / "lock"):
        for train_eval in planned.train_evals:
            for task in train_eval.tasks:  # those that failed run again
                (task.folder / "failure.json").unlink(missing_ok=True)
    manifest = {**manifest, "at": time.time(), **whole}
    run_plan(found.trials.folder, manifest, planned.train_evals, profile, workers, slurm=slurm)
