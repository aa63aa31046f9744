"""Which guidance suits a trained network? Scales, intervals, latent shift and kind, searched with Optuna.

    python -m sweeps.guidance RUN --trials 50 --workers 4
    python -m sweeps.guidance RUN guide=GUIDE objectives=[precision,recall] scale.dinov2=[1,4,0.1] begin=0 end=1
    python -m lf.evaluate run=RUN preset=runs/sweeps/guidance-ID/guidance.yaml          # the best settings

RUN is a training's id, its folder or the checkpoint in it. The unguided point comes first, then `points`, then a coarse
grid over the scales, then what a Gaussian process proposes. A point that a sweep or another trial evaluated costs
nothing, the noise is the same in all trials, and one trial takes as long as ``lf.evaluate`` on one worker. The same
command goes on where it was; with more trials it adds to them. Its folder ``runs/sweeps/guidance-ID`` holds the study
(``study.journal``; optuna-dashboard reads it), the trials as rows, the best settings as presets, and Optuna's plots.
"""

import argparse
import shlex
import time
import warnings
from pathlib import Path
from typing import Any, Literal

import optuna
from pydantic import Field
from rich.table import Table

from lf.claims import claim
from lf.config import Runtime, help_of, overrides, parse
from lf.door import door
from lf.errors import UserError, nearest
from lf.files import replace
from lf.runs import find_training
from sweeps import cluster as clusters
from sweeps import state
from sweeps.follow import carry_out, console, on_slurm, share_cores
from sweeps.plan import Plan
from sweeps.queue import Chain
from sweeps.search import Search, Space
from sweeps.trials import Trials, Worker


class Command(Search):
    """What the command line takes."""

    trials: int = Field(50, ge=1, description="trials in all")
    workers: int = Field(1, ge=1, description="processes that evaluate; on SLURM each is a job")
    executor: Literal["auto", "local", "slurm"] = "auto"
    cluster: dict[str, Any] = Field({}, description="values over cluster.toml's")
    runtime: Runtime = Runtime()


def command(words: list[str]) -> Command:
    """The search that ``key=value`` words ask for."""
    given = overrides(words)
    for key in given:
        if key not in Command.model_fields:
            raise UserError(f"{key}: unknown key; {nearest(key, Command.model_fields)}")
    return parse(Command, given, "guidance")


def launch(asked: Command, run: str, words: list[str]) -> Trials:
    """Runs a search's workers until all of its trials are over; returns them.

    Raises:
        UserError: an unknown run, or a space that does not fit it.
        SystemExit: every worker stopped before the trials were over.
    """
    slurm = on_slurm(asked.executor)
    profile, _ = clusters.load(asked.cluster)
    runtime = profile.placed(asked.runtime)
    runs = Path(runtime.runs).absolute()
    runtime = runtime.model_copy(update={"runs": str(runs)})
    trained = find_training(run, runtime if slurm else share_cores(runtime, asked.workers))
    search = Search.model_validate(asked.model_dump(include=set(Search.model_fields)))
    trials = Trials(Space(search, trained), runs)
    folder = str(trained.folder.absolute())
    workers = [
        Worker(trained.training, (), f"worker {number}", search, folder, number, asked.trials)
        for number in range(asked.workers)
    ]
    if workers[0].done:
        return trials
    # A worker is one process; more processes are more workers.
    one = {"nodes": 1, "tasks": 1, "gpus": min(1, profile.shape("evaluate").gpus)}
    profile = profile.model_copy(update={"evaluate": {**profile.evaluate, **one}})
    planned = Plan({}, [Chain(None, [worker]) for worker in workers], 0, 0)
    sweep = trials.folder
    with claim(sweep / "lock"):
        trials.begin()
        (sweep / "held.json").unlink(missing_ok=True)
        for worker in workers:  # what had stopped for good is tried again
            (worker.folder / "failure.json").unlink(missing_ok=True)
    about: dict[str, Any] = {
        "sweep": trials.name, "asked": trials.name, "words": words, "question": (__doc__ or "").splitlines()[0],
        "at": time.time(), "cells": [], "units": [state.entry(worker, "", [worker.row], "") for worker in workers],
    }  # fmt: skip
    carry_out(sweep, about, planned, profile, asked.workers, slurm=slurm)
    if not workers[0].done:
        console.print(f"{trials.finished} of {asked.trials} trials are over, and no worker is left; the same command")
        console.print(f"goes on; python -m sweeps.logs {trials.name} 0 tells more")
        raise SystemExit(1)
    return trials


def best(trials: Trials) -> list[optuna.trial.FrozenTrial]:
    """The best trial of one objective, or all that no other beats in every one of several (the Pareto front)."""
    return trials.study.best_trials if len(trials.search.objectives) > 1 else [trials.study.best_trial]


def presets(trials: Trials, run: str) -> list[Path]:
    """Writes the best settings as presets, from which ``lf.evaluate`` asks for the very same evaluation."""
    from omegaconf import OmegaConf

    files, found = [], best(trials)
    for trial in found:
        evaluation = trials.space.evaluation(trials.space.unguided | trial.params)
        told = ", ".join(
            f"{name} {value:.4g}" for name, value in zip(trials.search.objectives, trial.values, strict=True)
        )
        files.append(trials.folder / ("guidance.yaml" if len(found) == 1 else f"guidance-{trial.number}.yaml"))
        settings = OmegaConf.to_yaml({"evaluation": evaluation.model_dump(mode="json", exclude_defaults=True)})
        here = files[-1].relative_to(Path.cwd()) if files[-1].is_relative_to(Path.cwd()) else files[-1]
        line = f"python -m lf.evaluate run={shlex.quote(run)} preset={shlex.quote(str(here))}"
        replace(files[-1], f"# {told}: trial {trial.number} of {trials.name}\n# {line}\n{settings}")
    return files


def plots(trials: Trials) -> list[Path]:
    """Draws Optuna's importance, contour and history or Pareto plots, those for which there are trials enough."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as draw

    study, names = trials.study, trials.search.objectives
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    varied = [name for name in complete[0].params if len({trial.params[name] for trial in complete}) > 1]
    files = []

    def save(file: str) -> None:
        figure = pyplot.gcf()
        figure.savefig(trials.folder / file, dpi=150, bbox_inches="tight")
        pyplot.close("all")
        files.append(trials.folder / file)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Optuna's pictures by matplotlib may change
        if len(names) == 1:
            draw.plot_optimization_history(study, target_name=names[0])
            save("history.png")
        elif len(names) <= 3:
            draw.plot_pareto_front(study, target_names=list(names))
            save("pareto.png")
        for number, name in enumerate(names):
            which = "" if len(names) == 1 else f"-{name}"

            def target(trial: optuna.trial.FrozenTrial, number: int = number) -> float:
                return float(trial.values[number])

            if len(varied) < 2 or len({target(trial) for trial in complete}) < 2:
                continue  # nothing to compare
            matters = list(optuna.importance.get_param_importances(study, params=varied, target=target))
            draw.plot_param_importances(study, params=varied, target=target, target_name=name)
            save(f"importance{which}.png")
            draw.plot_contour(study, params=matters[:2], target=target, target_name=name)
            save(f"contour{which}.png")
    return files


def show(trials: Trials) -> None:
    """The best trials, under the unguided one."""
    table = Table("trial", *trials.search.objectives, "settings", title=trials.name, box=None)
    rows = {row["trial"]: row for row in trials.rows()}
    for number in dict.fromkeys([0, *(trial.number for trial in best(trials))]):
        scores = [f"{rows[number].get(name, float('nan')):.4g}" for name in trials.search.objectives]
        evaluation = trials.space.evaluation(rows[number]["point"])
        said = evaluation.model_dump(mode="json", include={"guidance", "shift"}, exclude_defaults=True)
        table.add_row(str(number), *scores, str(said or "unguided"))
    console.print(table)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        "python -m sweeps.guidance", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.epilog = "\n".join(["keys:", *help_of(Command)])
    parser.add_argument("run", help="training run: its id, folder or checkpoint")
    for name in ("trials", "workers", "executor"):
        parser.add_argument(f"--{name}", help=f"short for {name}=…")
    parser.add_argument("words", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(argv)
    words = [*options.words, *(f"{k}={v}" for k in ("trials", "workers", "executor") if (v := getattr(options, k)))]
    run = str(Path(options.run).parent) if Path(options.run).is_file() else options.run
    trials = launch(command(words), run, words)
    show(trials)
    for file in [*presets(trials, run), *plots(trials)]:
        console.print(str(file), soft_wrap=True, highlight=False)


if __name__ == "__main__":
    door(main)
