"""The trials of a search: an Optuna study shared by any number of workers; any of them may stop.

A worker holds a lease (`lf.storage.lease`) on the trial that it runs, with any storage. If a worker dies, the next free
one resumes its trial, with the same number and the same point; finished runs are reused.
"""

import os
import random
import socket
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.pool import NullPool

from lf.core.errors import NotANumberError, UserError, nearest
from lf.core.seeds import generator
from lf.storage.lease import held, lease
from sweeps.search.space import Space

optuna.logging.set_verbosity(optuna.logging.WARNING)
STARTUP = 5  # trials before the Gaussian process chooses
WALK = 500  # most steps of the random walk to a new point


class Unseen(optuna.samplers.GPSampler):
    """A Gaussian process sampler that proposes nothing twice: it replaces a known point by a new one nearby."""

    def __init__(self, space: Space, seed: int):
        super().__init__(seed=seed, n_startup_trials=STARTUP, deterministic_objective=True)
        self.space, self.walk = space, random.Random(seed)

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Optuna's proposal, or the first point of a random walk from it that no trial has run."""
        params = proposed = super().sample_relative(study, trial, search_space)
        tried = (other for other in study.get_trials(deepcopy=False) if other.number != trial.number)
        seen = {self._asks(other.params) for other in tried}
        for step in range(WALK if proposed else 0):
            if self._asks(params) not in seen:
                return params
            if step >= WALK // 2 and len(self.space.kinds) > 1:  # this kind may have no other point
                params = {**params, "kind": self.walk.choice(self.space.kinds)}
            name, values = self.walk.choice(list(self.space.varied.items()))
            params = {**params, name: values.nearest(params[name] + self.walk.choice((-1, 1)) * values.step)}
        return proposed

    def _asks(self, params: dict[str, Any]) -> str:
        return self.space.text({**self.space.usual, **params})


S = TypeVar("S", bound=Space)


class Trials(Generic[S]):
    """The study of a search, in a database or in a journal file in its folder.

    Args:
        space: what is searched.
        runs: the run store.

    Raises:
        UserError: the database cannot be used.
    """

    def __init__(self, space: S, runs: Path):
        self.space, self.search = space, space.search
        self.name, self.folder = space.name, space.place(runs)
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
            if not url and not isinstance(error, ValueError | TypeError | KeyError):
                raise
            if not url:
                journal_file = self.folder / "study.journal"
                raise UserError(f"{journal_file}: is damaged; remove it, and finished evaluations are reused") from None
            raise UserError(f"storage={url}: {str(error).splitlines()[0]}") from None

    def begin(self) -> None:
        """Queues the points to try first."""
        for point in self.space.first():
            free = [name for name in point if name in self.space.varied or name == "kind" and len(self.space.kinds) > 1]
            self.study.enqueue_trial({name: point[name] for name in free}, skip_if_exists=True)

    def count(self, *states: TrialState) -> int:
        """Number of trials in one of ``states``."""
        return len(self.study.get_trials(deepcopy=False, states=states))

    @property
    def finished(self) -> int:
        """Number of trials that have ended."""
        return self.count(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

    @contextmanager
    def taken(self, most: int) -> Iterator[optuna.Trial | None]:
        """A trial that only this process runs: one whose worker died, else a new one while there are under ``most``."""
        with ExitStack() as held_trial:
            with lease(self.folder / "leases" / "next"):  # one worker at a time chooses, so it sees all other trials
                trial = self._left(held_trial) or self._new(held_trial, most)
            yield trial

    def _lease(self, number: int) -> Path:
        return self.folder / "leases" / str(number)

    def _left(self, held_trial: ExitStack) -> optuna.Trial | None:
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if held(self._lease(frozen.number)):
                continue
            with ExitStack() as mine:
                mine.enter_context(lease(self._lease(frozen.number)))
                trial = optuna.Trial(self.study, frozen._trial_id)
                if self.study.get_trials(deepcopy=False)[frozen.number].state == TrialState.RUNNING:
                    held_trial.push(mine.pop_all())
                    return self._chosen(trial)
        return None

    def _new(self, held_trial: ExitStack, most: int) -> optuna.Trial | None:
        begun = len(self.study.get_trials(deepcopy=False)) - self.count(TrialState.WAITING)
        if begun >= most:
            return None
        # One seed per trial: the choice depends on its number and on earlier results, not on the worker.
        seed = generator("search", self.search.seed, begun).initial_seed() % 2**32
        # A Gaussian process suits few trials, few dimensions and equal noise. It accounts for the running points.
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            self.study.sampler = Unseen(self.space, seed)
        trial = self.study.ask()
        held_trial.enter_context(lease(self._lease(trial.number)))
        return self._chosen(trial)

    def _chosen(self, trial: optuna.Trial) -> optuna.Trial:
        if len(self.space.kinds) > 1:
            trial.suggest_categorical("kind", self.space.kinds)
        for name, values in self.space.varied.items():
            trial.suggest_float(name, values.low, values.high, step=values.step)
        by = [*trial.user_attrs.get("by", []), f"{socket.gethostname()} {os.getpid()}"]
        trial.set_user_attr("by", by)
        return trial

    def run(self, trial: optuna.Trial) -> None:
        """Runs a trial's point; with ``early``, scored first with that many images, and compared with other trials."""
        point, early = self.space.usual | trial.params, self.space.early
        if early:
            (value,) = self.values(self.space.run(point, early))
            if early not in self.study.trials[trial.number].intermediate_values:
                trial.report(value, early)
            if trial.should_prune():
                self.study.tell(trial, state=TrialState.PRUNED)
                return
        try:
            row = self.space.run(point)
        except NotANumberError:
            self.study.tell(trial, state=TrialState.FAIL)
            return
        trial.set_user_attr("evaluation", row["id"])
        self.study.tell(trial, self.values(row))

    def values(self, row: dict[str, Any]) -> list[float]:
        """The objectives in a row. Raises `UserError` if one is missing."""
        named = {name: value for name, value in row.items() if isinstance(value, float)}
        first = next(value for name, value in named.items() if name.startswith(("fd", "fid")))
        named = {"fd": first, **named}
        for name in self.search.objectives:
            if name not in named:
                raise UserError(f"objectives={name}: not in the rows of this evaluation; {nearest(name, named)}")
        return [named[name] for name in self.search.objectives]

    def rows(self) -> list[dict[str, Any]]:
        """The results, one row per trial that has ended."""
        over = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        return [
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                **dict(zip(self.search.objectives, trial.values or (), strict=False)),
                "point": self.space.usual | trial.params,
                "evaluation": trial.user_attrs.get("evaluation", ""),
                "by": trial.user_attrs.get("by", []),
            }
            for trial in self.study.get_trials(deepcopy=False, states=over)
        ]
