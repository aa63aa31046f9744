"""Results of a search for an order: the best ones as presets and files of points, and the report."""

from pathlib import Path

from omegaconf import OmegaConf

from lf.storage.atomic import replace
from sweeps.jobs.monitor import console
from sweeps.search.halving import OrderFound
from sweeps.search.space import Point


def write(found: OrderFound) -> list[Path]:
    """Writes each of the best orders: ``order.yaml``, a preset of its training, and ``points.yaml``, its path."""
    files = []
    for number, point in enumerate(found.best):
        suffix = "" if len(found.best) == 1 else f"-{number}"
        preset, points = (found.trials.folder / f"{name}{suffix}.yaml" for name in ("order", "points"))
        training, space = found.space.training(point, found.space.search.end), found.space
        said = (
            f"# {space.told(point)}: {_scores(found, point, space.search.end)}, the best of {found.trials.finished}\n"
        )
        config = {
            "training": training.model_dump(mode="json", exclude={"runtime"}),
            "evaluation": space.evaluation().model_dump(mode="json", exclude_defaults=True),
        }
        replace(preset, f"{said}# python -m lf.train preset={_near(preset)}\n{OmegaConf.to_yaml(config)}")
        path = training.schedule.path(space.evaluation().steps).round(decimals=6).tolist()
        columns = zip(*(row for n, row in enumerate(path) if n == 0 or row != path[n - 1]), strict=True)
        named = {name: list(column) for name, column in zip(space.streams, columns, strict=True)}
        use = f"# python -m lf.train schedule={{name: points, points: {_near(points)}}} latents=…\n"
        replace(points, said + use + OmegaConf.to_yaml(named))
        files += [preset, points]
    return files


def show(found: OrderFound, files: list[Path]) -> None:
    """Prints every order with its scores at all lengths, the best one, and the files; writes the report."""
    from analysis import report  # imported here only: plotting libraries take a second

    space, end = found.space, found.space.search.end
    report.show(space.name, found.trials.folder.parents[1], console)
    for point in found.best:
        fresh, second = _scores(found, point, end, noise=1), _scores(found, point, end, other=1)
        said = f"{space.told(point)}: {_scores(found, point, end)}; fresh noise {fresh}; a second seed {second}"
        console.print(f"best order: {said}", highlight=False, soft_wrap=True)
    for file in files:
        console.print(str(_near(file)), soft_wrap=True, highlight=False)


def _scores(found: OrderFound, point: Point, share: float, *, noise: int = 0, other: int = 0) -> str:
    row = found.row(point, share, noise=noise, other=other)
    return " ".join(f"{value:.4g}" for value in found.trials.values(row)) if row else "—"


def _names(found: OrderFound) -> str:
    return " ".join(found.trials.search.objectives)


def _near(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
