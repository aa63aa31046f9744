"""What all tests share: the way they are spread over processes, one thread each, fixed seeds, small data, a judge."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from PIL import Image
from xdist.scheduler import LoadScopeScheduling

from lf import data, metrics
from lf.training import logger

# Plain asserts in the classes that plugin authors inherit, and in helpers, then say what they compared.
pytest.register_assert_rewrite("lf.schedules.conformance", "lf.encoders.conformance", "toy", "converted", "disturbed")

torch.set_num_threads(1)
RECIPE = dict(metrics.RECIPE)
settings.register_profile("lf", derandomize=True, deadline=None, max_examples=60)  # the same examples every time
settings.load_profile("lf")


LONGEST = (
    "tests/slurm/test_failures.py", "tests/sweeps/test_questions.py", "tests/slurm/test_survive.py",
    "tests/test_first_hour.py", "tests/slurm", "tests/sweeps", "tests/training", "tests/analysis",
)  # fmt: skip
TOGETHER = ("tests/sweeps/launch",)  # folders with a sweep that all of their tests share


class Scheduling(LoadScopeScheduling):
    """A file is the work of one process, since its tests share fixtures; so are the files of some folders."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in TOGETHER if file.startswith(f"{folder}/")), file)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than cores: the tests of a cluster mostly wait."""
    return (os.cpu_count() or 1) + 1


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first, also in a file: the next file of a process waits for the last two tests of the one."""

    def rank(item: pytest.Item) -> int:
        return next((i for i, place in enumerate(LONGEST) if item.nodeid.startswith(place)), len(LONGEST))

    files = {file: number for number, file in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(key=lambda item: (rank(item), files[item.path], item.get_closest_marker("slow") is None))


@pytest.fixture(autouse=True)
def _seeds() -> None:
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _rate_of_this_machine() -> Iterator[None]:
    """It is measured once a process, not for every training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logger, "matmul_rate", cache(logger.matmul_rate))
        yield


SLURM = {"sbatch", "srun", "salloc", "squeue", "sacct", "scancel", "scontrol", "sinfo", "sprio", "sstat"}


@pytest.fixture(scope="session", autouse=True)
def hide_slurm(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], None]:
    """Takes SLURM's commands off PATH, so that no test submits to a real cluster; tests/slurm/ starts its own."""

    def hide() -> None:
        path = []
        for entry in os.environ["PATH"].split(os.pathsep):
            folder = Path(entry or ".")
            if any((folder / name).exists() for name in SLURM):
                copy = tmp_path_factory.mktemp("path")
                for file in folder.iterdir():
                    if file.name not in SLURM:
                        (copy / file.name).symlink_to(file.absolute())
                folder = copy
            path.append(str(folder))
        os.environ["PATH"] = os.pathsep.join(path)

    hide()
    return hide


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small data, for ``data=folder:{store}/images``: 6 classes of 10 images of 32 px, all different."""
    from lf.data import shapes

    place = tmp_path_factory.mktemp("store")
    made = shapes.make(range(200), resolution=32)
    for label, name in enumerate(made.classes):
        (place / "images" / name).mkdir(parents=True)
        for number, pixels in enumerate(made.images[made.labels == label][:10]):
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(place / "images" / name / f"{number}.png")
    return place


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of a run store, with the digits of 16 px and their judge in it, fitted once for all processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "fitted"
    with FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as patch:
        for key, value in RECIPE.items():  # whatever some module has changed
            patch.setitem(metrics.RECIPE, key, value)
        data.load("digits", 16, "test", folder)
        train, judge = (data.load("digits", 16, split, folder) for split in ("train", "judge"))
        _ = metrics.Judge(train, judge, folder).statistics
    return folder


@pytest.fixture(scope="session")
def judged(fitted: Path) -> Callable[[Path], Path]:
    """Puts them into a run store, which it gives back: nobody need fit that judge again."""

    def judged(runs: Path) -> Path:
        (runs / "cache").mkdir(parents=True, exist_ok=True)
        for file in fitted.glob("*.safetensors"):
            with suppress(FileExistsError):
                os.link(file, runs / "cache" / file.name)
        return runs

    return judged
