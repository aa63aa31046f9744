"""A trained network to search the guidance of, and a judge that is hardly trained."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy import LATENT, training

from lf import metrics
from lf.train import train


@pytest.fixture
def quick() -> Iterator[None]:
    """A judge that is hardly trained, in this process: seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(metrics.RECIPE, "steps", 5)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained network."""
    config = training(LATENT, "schedule=cascaded", "lr=1e-2", f"runtime.runs={tmp_path_factory.mktemp('runs')}")
    train(config)
    (folder,) = (Path(config.runtime.runs) / "training").iterdir()
    return folder


@pytest.fixture
def network(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, in a store of its own."""
    return Path(shutil.copytree(trained.parents[1], tmp_path / "runs")) / "training" / trained.name
