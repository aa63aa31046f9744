"""A run store in which `order_ablation` is done, in one process, by an encoder and a judge that are hardly trained."""

import io
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import order
import pytest
from inline import inline

from sweeps import launch


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    """All that must be fitted once is quick to fit, and launches start no process."""
    with order.quick(), inline():
        yield


@pytest.fixture(scope="session")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run store in which the sweep is done, and what the launch said."""
    place = tmp_path_factory.mktemp("store")
    with order.quick(), inline(), redirect_stdout(io.StringIO()) as said:
        launch.main([*order.SWEEP, f"runtime.runs={place}"])
    return place, said.getvalue()


@pytest.fixture(scope="session")
def done(launched: tuple[Path, str]) -> Path:
    """The store alone."""
    return launched[0]


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """A copy of it, to harm."""
    return Path(shutil.copytree(done, tmp_path / "copy"))
