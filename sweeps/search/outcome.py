"""Results of a search: the best settings as presets, Optuna's plots, a table."""

import shlex
import warnings
from pathlib import Path
from typing import Any

import optuna
from rich.table import Table

from lf.storage.atomic import replace
from sweeps.jobs.monitor import console
from sweeps.search.guidance import GuidanceSpace
from sweeps.search.trials import Trials


def best(trials: Trials[Any]) -> list[optuna.trial.FrozenTrial]:
    """The best trial; with several objectives, the Pareto front."""
    return trials.study.best_trials if len(trials.search.objectives) > 1 else [trials.study.best_trial]


def presets(trials: Trials[GuidanceSpace], run: str) -> list[Path]:
    """Writes the best settings as presets; with one, ``lf.evaluate`` finds exactly the same evaluation."""
    from omegaconf import OmegaConf

    files, found = [], best(trials)
    for trial in found:
        evaluation = trials.space.evaluation(trials.space.usual | trial.params)
        values = ", ".join(
            f"{name} {value:.4g}" for name, value in zip(trials.search.objectives, trial.values, strict=True)
        )
        files.append(trials.folder / ("guidance.yaml" if len(found) == 1 else f"guidance-{trial.number}.yaml"))
        settings = OmegaConf.to_yaml({"evaluation": evaluation.model_dump(mode="json", exclude_defaults=True)})
        here = files[-1].relative_to(Path.cwd()) if files[-1].is_relative_to(Path.cwd()) else files[-1]
        line = f"python -m lf.evaluate run={shlex.quote(run)} preset={shlex.quote(str(here))}"
        replace(files[-1], f"# {values}: trial {trial.number} of {trials.name}\n# {line}\n{settings}")
    return files


def plots(trials: Trials[Any]) -> list[Path]:
    """Draws Optuna's importance, contour and history or Pareto plots, as far as there are enough trials."""
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
        warnings.simplefilter("ignore")  # Optuna's matplotlib plots are experimental
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


def show(trials: Trials[GuidanceSpace]) -> None:
    """Prints the unguided trial and the best ones."""
    table = Table("trial", *trials.search.objectives, "settings", title=trials.name, box=None)
    rows = {row["trial"]: row for row in trials.rows()}
    for number in dict.fromkeys([0, *(trial.number for trial in best(trials))]):
        scores = [f"{rows[number].get(name, float('nan')):.4g}" for name in trials.search.objectives]
        evaluation = trials.space.evaluation(rows[number]["point"])
        said = evaluation.model_dump(mode="json", include={"guidance", "shift"}, exclude_defaults=True)
        table.add_row(str(number), *scores, str(said or "unguided"))
    console.print(table)
