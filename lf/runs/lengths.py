"""Trainings that differ only in their number of steps: a longer one continues a shorter one, to the same end.

With a constant learning rate every step depends on the seed and on its own number, not on the steps that follow, so the
end of a shorter training is a checkpoint of the longer one. A training that ends leaves a note, by which longer ones
find it: ``runs/lengths/<identity without steps>/<steps>`` holds its identity.
"""

from pathlib import Path

from lf.runs.identity import identity_of
from lf.runs.run import Run
from lf.runs.trained import IDENTITY, TrainingRun
from lf.storage import checkpoint
from lf.storage.atomic import replace


def note_length(run: TrainingRun) -> None:
    """Notes a training that ends, so that longer ones find it once it has a row."""
    if notes := _notes(run):
        replace(notes / str(run.training.steps), run.id)


def shorter(run: TrainingRun) -> Run | None:
    """The longest finished training of the same store that is the beginning of ``run``; None if there is none."""
    notes = _notes(run)
    if notes is None or not notes.is_dir():
        return None
    lengths = (int(file.name) for file in notes.iterdir() if file.name.isdigit())
    for steps in sorted((steps for steps in lengths if steps < run.training.steps), reverse=True):
        name = (notes / str(steps)).read_text(errors="replace")
        found = Run(run.folder.with_name(name), {}) if IDENTITY.fullmatch(name) else None
        if found and found.row is not None and checkpoint.begun(found.folder):  # it is still there
            return found
    return None


def continues(run: TrainingRun, other: TrainingRun) -> bool:
    """Whether ``other`` is the beginning of ``run``."""
    return other.training.steps < run.training.steps and _notes(run) is not None and _notes(run) == _notes(other)


def last_checkpoint(run: TrainingRun) -> Path | None:
    """The folder whose checkpoint a training resumes from: its own, or that of a shorter one; None if it is new."""
    if checkpoint.begun(run.folder):
        return run.folder
    begun = shorter(run)
    return begun.folder if begun else None


def _notes(run: TrainingRun) -> Path | None:
    """Folder of the notes of trainings that differ from ``run`` only in steps; None if its rate depends on them."""
    if run.training.lr_schedule != "constant":
        return None
    what = {key: value for key, value in run.config.items() if key != "steps"}
    return run.folder.parents[1] / "lengths" / identity_of(what)
