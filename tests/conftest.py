"""What all tests share: one thread, fixed seeds, small data."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

# Plain asserts in the classes that plugin authors inherit then say what they compared.
pytest.register_assert_rewrite("lf.schedules.conformance", "lf.encoders.conformance")

torch.set_num_threads(1)
settings.register_profile("lf", derandomize=True, deadline=None, max_examples=60)  # the same examples every time
settings.load_profile("lf")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    np.random.seed(0)
    torch.manual_seed(0)


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
