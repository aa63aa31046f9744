"""The trials of a guidance search: who runs which, in a study that any number of workers share and any may leave.

A trial that runs is leased to the process that runs it (`lf.claims`), whatever the storage. One that nobody holds any
more is taken up by the next worker: it keeps its number and its point, and what it had evaluated is there.
"""

import json
import os
import random
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.pool import NullPool

from lf import stop
from lf.claims import claim, held
from lf.config import Runtime
from lf.errors import UserError, nearest
from lf.evaluate import evaluate
from lf.files import replace
from lf.runs import TrainingRun, find_training
from lf.seeds import generator
from sweeps.search import Search, Space
from sweeps.work import Unit

optuna.logging.set_verbosity(optuna.logging.WARNING)
STARTUP = 5  # trials before the Gaussian process chooses
WALK = 500  # steps from a point that was tried to one that is tried instead


class Unseen(optuna.samplers.GPSampler):
    """A Gaussian process that never asks for an evaluation twice: from one it knows it walks to a new one nearby."""

    def __init__(self, space: Space, seed: int):
        super().__init__(seed=seed, n_startup_trials=STARTUP, deterministic_objective=True)
        self.space, self.walk = space, random.Random(seed)

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What Optuna's sampler gives, or the first point of a random walk from there that no trial has evaluated."""
        params = proposed = super().sample_relative(study, trial, search_space)
        tried = (other for other in study.get_trials(deepcopy=False) if other.number != trial.number)
        seen = {self._asks(other.params) for other in tried}
        for _ in range(WALK if proposed else 0):
            if self._asks(params) not in seen:
                return params
            name, values = self.walk.choice(list(self.space.varied.items()))
            params = {**params, name: values.nearest(params[name] + self.walk.choice((-1, 1)) * values.step)}
        return proposed

    def _asks(self, params: dict[str, Any]) -> str:
        return self.space.evaluation({**self.space.unguided, **params}).model_dump_json()


class Trials:
    """The study of a search, in a database or in a journal file in its folder.

    Args:
        space: what is searched.
        runs: the run store.

    Raises:
        UserError: the database cannot be used.
    """

    def __init__(self, space: Space, runs: Path):
        self.space, self.search = space, space.search
        self.name = f"guidance-{space.id}"
        self.folder = runs / "sweeps" / self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        url = self.search.storage
        storage: optuna.storages.BaseStorage
        try:
            if url:
                storage = optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": NullPool})
            else:
                journal = JournalFileBackend(str(self.folder / "study.journal"))
                storage = optuna.storages.JournalStorage(journal)
            self.study = optuna.create_study(
                study_name=self.name,
                storage=storage,
                directions=self.search.directions,
                pruner=optuna.pruners.MedianPruner(),
                load_if_exists=True,
            )
        except ImportError as error:
            raise UserError(f"storage={url}: {error}; pip install 'lf[search]' brings psycopg") from None
        except Exception as error:
            if not url:
                raise
            raise UserError(f"storage={url}: {str(error).splitlines()[0]}") from None

    def begin(self) -> None:
        """Queues the points that are tried first."""
        for point in self.space.first():
            free = [name for name in point if name in self.space.varied or name == "kind" and len(self.space.kinds) > 1]
            self.study.enqueue_trial({name: point[name] for name in free}, skip_if_exists=True)

    def count(self, *states: TrialState) -> int:
        """How many trials are in one of ``states``."""
        return len(self.study.get_trials(deepcopy=False, states=states))

    @property
    def finished(self) -> int:
        """How many trials are over."""
        return self.count(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

    @contextmanager
    def taken(self, most: int) -> Iterator[optuna.Trial | None]:
        """A trial for this process alone: one whose worker died, else a new one as long as there are under ``most``."""
        with ExitStack() as lease:
            with claim(self.folder / "leases" / "next"):  # one worker at a time chooses, and knows of all others
                trial = self._left(lease) or self._new(lease, most)
            yield trial

    def _lease(self, number: int) -> Path:
        return self.folder / "leases" / str(number)

    def _left(self, lease: ExitStack) -> optuna.Trial | None:
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if held(self._lease(frozen.number)):
                continue
            with ExitStack() as mine:
                mine.enter_context(claim(self._lease(frozen.number)))
                trial = optuna.Trial(self.study, frozen._trial_id)
                if self.study.get_trials(deepcopy=False)[frozen.number].state == TrialState.RUNNING:
                    lease.push(mine.pop_all())
                    return self._chosen(trial)
        return None

    def _new(self, lease: ExitStack, most: int) -> optuna.Trial | None:
        begun = len(self.study.get_trials(deepcopy=False)) - self.count(TrialState.WAITING)
        if begun >= most:
            return None
        # A seed a trial: its choice depends on its number and on what is known, never on which worker asks.
        seed = generator("search", self.search.seed, begun).initial_seed() % 2**32
        # A Gaussian process: few trials, few numbers, the same noise in all. It knows of the points that run.
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            self.study.sampler = Unseen(self.space, seed)
        trial = self.study.ask()
        lease.enter_context(claim(self._lease(trial.number)))
        return self._chosen(trial)

    def _chosen(self, trial: optuna.Trial) -> optuna.Trial:
        if len(self.space.kinds) > 1:
            trial.suggest_categorical("kind", self.space.kinds)
        for name, values in self.space.varied.items():
            trial.suggest_float(name, values.low, values.high, step=values.step)
        by = [*trial.user_attrs.get("by", []), f"{socket.gethostname()} {os.getpid()}"]
        trial.set_user_attr("by", by)
        return trial

    def run(self, trial: optuna.Trial, trained: TrainingRun) -> None:
        """Evaluates a trial's point; with ``early``, that many images first, judged against others' as many."""
        point, early = self.space.unguided | trial.params, self.search.early
        if early:
            (value,) = self.values(evaluate(trained, self.space.evaluation(point, early)))
            if early not in self.study.trials[trial.number].intermediate_values:
                trial.report(value, early)
            if trial.should_prune():
                self.study.tell(trial, state=TrialState.PRUNED)
                return
        row = evaluate(trained, self.space.evaluation(point))
        trial.set_user_attr("evaluation", row["id"])
        self.study.tell(trial, self.values(row))

    def values(self, row: dict[str, Any]) -> list[float]:
        """The objectives in a row. Raises `UserError` if it lacks one."""
        named = {name: value for name, value in row.items() if isinstance(value, float)}
        first = next(value for name, value in named.items() if name.startswith(("fd", "fid")))
        named = {"fd": first, **named}
        for name in self.search.objectives:
            if name not in named:
                raise UserError(f"objectives={name}: not in the rows of this evaluation; {nearest(name, named)}")
        return [named[name] for name in self.search.objectives]

    def rows(self) -> list[dict[str, Any]]:
        """What came out, a row a trial that is over."""
        over = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        return [
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                **dict(zip(self.search.objectives, trial.values or (), strict=False)),
                "point": self.space.unguided | trial.params,
                "evaluation": trial.user_attrs.get("evaluation", ""),
                "by": trial.user_attrs.get("by", []),
            }
            for trial in self.study.get_trials(deepcopy=False, states=over)
        ]


@dataclass(frozen=True)
class Worker(Unit):
    """One worker of a search, as a unit that the sweeps' queues run: it stays until ``most`` trials are over."""

    search: Search = field(default_factory=Search)
    run_folder: str = ""
    number: int = 0
    most: int = 0

    @cached_property
    def trained(self) -> TrainingRun:
        return find_training(self.run_folder, self.training.runtime)

    @cached_property
    def name(self) -> str:
        """The search's name."""
        return f"guidance-{Space(self.search, self.trained).id}"

    @cached_property
    def key(self) -> str:
        return f"{self.name}-{self.number}"

    @property
    def kind(self) -> str:
        return "search"

    @property
    def row(self) -> str:
        """The file that is there when the search is over, below the run store."""
        return f"sweeps/{self.name}/trials-{self.most}.jsonl"

    @property
    def done(self) -> bool:
        return (Path(self.training.runtime.runs) / self.row).exists()

    def run(self, smaller: int) -> None:
        """Takes one trial after the other."""
        runtime: Runtime = self.training.runtime
        runtime = runtime.model_copy(update={"batch": max(1, runtime.batch >> smaller)})
        trained = find_training(self.run_folder, runtime)
        try:
            self._work(Trials(Space(self.search, trained), Path(runtime.runs)), trained)
        except optuna.exceptions.StorageInternalError as error:
            raise ConnectionError(str(error)) from error  # a database that went away: tried again

    def _work(self, trials: Trials, trained: TrainingRun) -> None:
        while trials.finished < self.most:
            if stop.asked():
                raise stop.Stopped(stop.asked())
            with trials.taken(self.most) as trial:
                if trial:
                    trials.run(trial, trained)
            if not trial:
                time.sleep(1)  # the last ones are others'; should one of these die, its trial is taken up here
        text = "".join(json.dumps(row) + "\n" for row in trials.rows())
        replace(Path(self.training.runtime.runs) / self.row, text)
