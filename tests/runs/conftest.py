"""A real run store, which version 0.1 left (tests/compatibility): 9 trainings, 39 evaluations, a sweep and a search."""

import tarfile
from pathlib import Path

import pytest

STORE = Path(__file__).parents[1] / "compatibility" / "store-0.1.tar.gz"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    with tarfile.open(STORE) as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path / "store-0.1" / "runs"
