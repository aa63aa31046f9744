"""Small searches: for guidance by one worker, in the process of the tests; and the words of one for an order."""

from pathlib import Path

import pytest
from toy import LATENT, WORDS

from sweeps.jobs.task import TrainEval
from sweeps.search import guidance, workers
from sweeps.search.guidance import GuidanceSpace
from sweeps.search.trials import Trials

SMALL = ["evaluation.n=16", "evaluation.steps=2", "executor=local", "runtime.compile=false", "runtime.threads=1"]
PLANE = ["scale=[1,3,0.25]", "begin=0", "end=1", "shift=1"]  # two scales and nothing else

ORDER = [
    *WORDS, LATENT, "shares=[0.5,0.75]", "end=1", "evaluation.n=100", "evaluation.steps=12",
    "runtime.compile=false", "runtime.threads=1",
]  # fmt: skip


def searched(network: Path, *words: str, most: int = 12) -> Trials[GuidanceSpace]:
    """A search by one worker, in this process."""
    with pytest.MonkeyPatch.context() as patch:

        def run_plan(sweep: Path, about: object, train_evals: list[TrainEval], *_: object, **__: object) -> bool:
            for train_eval in train_evals:
                for task in train_eval.tasks:
                    task.run(0)
            return True

        patch.setattr(workers, "run_plan", run_plan)
        here = [*SMALL, f"runtime.runs={network.parents[1]}", f"trials={most}"]
        return guidance.search(str(network), [*here, *words])


def told(trials: Trials[GuidanceSpace]) -> list[tuple[object, ...]]:
    return [(t.number, t.state.name, t.params, t.values) for t in trials.study.trials]


def distinct(trials: Trials[GuidanceSpace]) -> int:
    """How many different evaluations the trials stand for."""
    points = (trials.space.usual | trial.params for trial in trials.study.trials)
    return len({trials.space.evaluation(point).model_dump_json() for point in points})
