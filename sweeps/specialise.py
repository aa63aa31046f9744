"""Specialised networks: one `independent` network, the trunk, is trained on for a short while for one order.

The trunk learns all orders, so a network for one of them needs few steps more. ``from=trunk`` asks any question of
specialised networks; the question `specialisation` measures how far they rank the orders as trainings from scratch do.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from lf.config import Training
from lf.core.errors import UserError
from lf.core.parsing import parse
from lf.runs import training_run
from sweeps.cells import Cell, Launch
from sweeps.recipe import Recipe

USUAL = 0.2  # of the steps from scratch: warm-up and averages of a specialised training are those of this length


def trunk_of(training: Training, recipe: Recipe) -> Training:
    """The `independent` training of the same streams, network and seed, with the preset's steps.

    Trainings that differ only in their schedule and length have the same trunk.
    """
    usual = recipe.train()
    changes = {"schedule": {"name": "independent"}, "steps": usual.steps, "warmup": usual.warmup, "ema": usual.ema}
    return parse(Training, training.model_dump() | changes, "training")


def specialised(training: Training, trunk: Training, steps: int) -> Training:
    """``training`` for ``steps`` steps from the averaged weights of ``trunk``, which need not be trained yet.

    Its warm-up and the decays of its averages do not depend on ``steps``, so a longer one continues a shorter one.
    """
    changes = {
        "init": {"name": training_run(trunk).id},
        "steps": steps,
        "warmup": round(USUAL * training.warmup),
        "ema": [round(decay ** (1 / USUAL), 6) for decay in training.ema],
    }
    return parse(Training, training.model_dump() | changes, "training")


def from_trunk(cells: Iterable[Cell], launch: Launch) -> Iterator[Cell]:
    """The cells as ``from=`` asks: unchanged, or each with a network that is specialised for its schedule.

    Networks of one stream have no order, and are trained from scratch. `independent` networks are the trunk itself.

    Raises:
        UserError: a training begins with the weights of a run already.
    """
    for cell in cells:
        training = cell.training
        if launch.from_ == "scratch" or len(training.streams) == 1:
            yield cell
            continue
        if training.init.name:
            raise UserError(f"from=trunk: cell '{cell.title}' begins with the weights of init={training.init.name}")
        trunk = trunk_of(training, launch)
        if training.schedule == trunk.schedule:
            yield replace(cell, training=trunk)
        else:
            short = specialised(training, trunk, max(1, round(launch.probe * training.steps)))
            yield replace(cell, training=short, after=trunk)
