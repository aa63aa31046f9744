"""A plan: the cells of a question, grouped by their trainings, as tasks; and which of their runs are missing."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lf.core.runtime import Runtime
from lf.runs import TrainingRun
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
                after = train_eval.train.key if train_eval.train and task is not train_eval.train else ""
                tasks.append(entry(task, task.trained.id, rows, after))
        entries = [
            {**cell.all_labels, "title": cell.title, "training_id": cell.trained.id, "evaluation_id": cell.run.id}
            for cell in cells
        ]
        return {"cells": entries, "units": tasks}


def plan(cells: Iterable[Cell], runtime: Runtime, evaluations: int = 0) -> Plan:
    """Groups cells by their trainings, and finds which of their runs are missing.

    Args:
        cells: the cells of a sweep.
        runtime: runtime of the tasks.
        evaluations: evaluations per task; 0: all of a training.
    """
    trainings: dict[TrainingRun, list[Cell]] = {}
    for cell in cells:
        trainings.setdefault(cell.trained, []).append(cell)
    train_evals, steps, images, evaluated = [], 0, 0, 0
    for trained, some in trainings.items():
        training = trained.training.model_copy(update={"runtime": runtime})
        missing = [cell for cell in some if cell.run.row is None]
        shared = {key: value for key, value in some[0].labels.items() if all(c.labels.get(key) == value for c in some)}
        named = titled(shared) or f"training {trained.id[:SHORT]}"  # its cells may have no label in common
        train_eval = TrainEval(Task(training, (), named))
        share = evaluations or len(some)
        for start in range(0, len(some), share):  # all of them, done or not, so that the keys of tasks do not change
            part = some[start : start + share]
            title = part[0].title if len(part) == 1 else f"{named}, {len(part)} paths"
            train_eval.evaluations.append(Task(training, tuple(cell.evaluation for cell in part), title))
        steps += training.steps if trained.row is None else 0
        images += sum(cell.evaluation.n for cell in missing)
        evaluated += len(missing)
        train_evals.append(train_eval)
    return Plan(trainings, train_evals, steps, images, evaluated)
