"""Images in folders, to prepare shards of."""

from pathlib import Path

import numpy as np
import pytest
from packed import picture


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images of all sizes, modes and formats, in four classes."""
    place = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    modes = [("RGB", "png"), ("RGB", "jpg"), ("L", "png"), ("RGBA", "png"), ("CMYK", "jpg"), ("P", "png")]
    for number in range(40):
        mode, kind = modes[number % len(modes)]
        width, height = rng.integers(12, 90, 2).tolist()
        folder = place / "abcd"[number % 4] / ("deep" if number % 3 else ".")
        folder.mkdir(parents=True, exist_ok=True)
        picture(number, width, height).convert(mode).save(folder / f"{number:02d}.x.{kind}")
    return place
