"""A checkpoint file of JiT."""

from pathlib import Path

import pytest
from converted import nets
from published_files import args_of, write_checkpoint


@pytest.fixture
def jit(tmp_path: Path) -> Path:
    """A small JiT's file."""
    write_checkpoint(tmp_path / "jit.pth", *nets(), args_of())
    return tmp_path / "jit.pth"
