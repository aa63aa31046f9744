"""A plan: the cells of a question, grouped by their trainings, as tasks; and which of their runs are missing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lf.core.errors import UserError
from lf.core.runtime import Runtime
from lf.runs import TrainingRun, continues, training_run
from lf.runs.listing import training_words
from lf.storage.names import SHORT
from sweeps.cells import Cell, titled
from sweeps.jobs.state import entry
from sweeps.jobs.task import Task, TrainEval


@dataclass(frozen=True)
class Plan:
    """The work of a launch.

    Attributes:
        trainings: every training and its cells.
        train_evals: the same as tasks, done or not.
        steps, images, evaluations: training steps, evaluated images and evaluations that are missing, in total.
    """

    trainings: dict[TrainingRun, list[Cell]]
    train_evals: list[TrainEval]
    steps: int
    images: int
    evaluations: int

    def manifest(self, cells: Iterable[Cell]) -> dict[str, Any]:
        """The tasks of this plan and all cells of its sweep, as JSON, from which any process can find their states."""
        tasks = []
        for train_eval in self.train_evals:
            for task in train_eval.tasks:
                rows = [f"{run.folder.parent.name}/{run.id}/row.json" for run in task.runs]
                before = train_eval.after if task is train_eval.train else train_eval.train
                tasks.append(entry(task, task.trained.id, rows, before.key if before else ""))
        entries = [
            {**cell.all_labels, "title": cell.title, "training_id": cell.trained.id, "evaluation_id": cell.run.id}
            for cell in cells
        ]
        return {"cells": entries, "units": tasks}


def plan(cells: Iterable[Cell], runtime: Runtime, evaluations: int = 0, among: Iterable[Cell] = ()) -> Plan:
    """Groups cells by their trainings, and finds which of their runs are missing.

    Args:
        cells: the cells to do.
        runtime: runtime of the tasks.
        evaluations: evaluations per task; 0: all of a training.
        among: all cells of the sweep, as in `by_training`.
    """
    trainings, after = by_training(cells, among)
    train_evals, steps, images, evaluated = dict[TrainingRun, TrainEval](), 0, 0, 0
    for trained, some in trainings.items():
        training = trained.training.model_copy(update={"runtime": runtime})
        missing = [cell for cell in some if cell.run.row is None]
        named = _title(trained, some)
        before = train_evals[after[trained]].train if trained in after else None
        train_eval = TrainEval(Task(training, (), named, after=before))
        share = evaluations or len(some) or 1
        for start in range(0, len(some), share):  # all of them, done or not, so that the keys of tasks do not change
            part = some[start : start + share]
            title = part[0].title if len(part) == 1 else f"{named}, {len(part)} paths"
            train_eval.evaluations.append(Task(training, tuple(cell.evaluation for cell in part), title))
        done = after[trained].training.steps if trained in after and continues(trained, after[trained]) else 0
        steps += training.steps - done if trained.row is None else 0
        images += sum(cell.evaluation.n for cell in missing)
        evaluated += len(missing)
        train_evals[trained] = train_eval
    return Plan(trainings, list(train_evals.values()), steps, images, evaluated)


def by_training(
    cells: Iterable[Cell], among: Iterable[Cell] = ()
) -> tuple[dict[TrainingRun, list[Cell]], dict[TrainingRun, TrainingRun]]:
    """Every training with its cells, each after the one that it waits for; and which one that is.

    A training that is done waits for none that is missing.

    Args:
        cells: the cells to do.
        among: further cells, whose trainings those of ``cells`` may wait for.

    Raises:
        UserError: a training waits for itself.
    """
    cells, trainings = list(cells), dict[TrainingRun, list[Cell]]()
    after = dict[TrainingRun, TrainingRun]()
    for cell in (*among, *cells):
        before = training_run(cell.after) if cell.after else cell.trained
        if before != cell.trained and (before.row is not None or cell.trained.row is None):
            after[cell.trained] = before
    for cell in cells:
        line = [cell.trained]  # all that must be done before
        while line[-1] in after:
            if after[line[-1]] in line:
                raise UserError(f"cell '{cell.title}': after: its training waits for itself")
            line.append(after[line[-1]])
        for trained in reversed(line):
            trainings.setdefault(trained, [])
        trainings[cell.trained].append(cell)
    return trainings, {trained: before for trained, before in after.items() if trained in trainings}


def _title(trained: TrainingRun, cells: Sequence[Cell]) -> str:
    """What the cells of a training have in common; of one without cells, what it is."""
    if not cells:
        return training_words(trained.config)
    shared = {key: value for key, value in cells[0].labels.items() if all(c.labels.get(key) == value for c in cells)}
    return titled(shared) or f"training {trained.id[:SHORT]}"
