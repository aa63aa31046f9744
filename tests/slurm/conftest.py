"""A cluster for the tests in this folder, started once a process, on free ports and in a folder of its own.

Where SLURM cannot start (not installed, no root, no Debian) they are skipped and say why. With LF_NEED_SLURM=1, as in
`.ci/run`, it is installed, and where that is not possible they fail.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import CannotStart, Cluster
from filelock import FileLock

ENVIRONMENT = dict(os.environ)  # as it was before tests/conftest.py hid an installed SLURM from the tests


def _started(hide_slurm: Callable[[], None], temporary: Path, *words: str) -> Iterator[Cluster]:
    cluster = Cluster(ENVIRONMENT, *words)
    try:
        with FileLock(temporary.parent / "cluster.lock"):  # what is missing is installed by one process
            cluster.start()
        hide_slurm()  # with LF_NEED_SLURM=1 it may have been installed just now
        yield cluster
    except CannotStart as why:
        if os.environ.get("LF_NEED_SLURM") == "1":
            pytest.fail(f"LF_NEED_SLURM=1, and {why}", pytrace=False)
        pytest.skip(str(why))
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def cluster(hide_slurm: Callable[[], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """SLURM with accounting."""
    yield from _started(hide_slurm, tmp_path_factory.getbasetemp(), "--accounting")


@pytest.fixture(scope="session")
def cluster_without_accounting(
    hide_slurm: Callable[[], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """SLURM without accounting, and with no sacct on PATH."""
    yield from _started(hide_slurm, tmp_path_factory.getbasetemp())
