"""Images side by side, as torchvision puts them."""

import pytest
import torch
from torchvision.utils import make_grid

from analysis.figures.style import tiles


@pytest.mark.parametrize(("number", "columns"), [(1, 3), (2, 3), (3, 3), (5, 1), (7, 3), (12, 4)])
def test_the_tiles_are_those_of_torchvision(number: int, columns: int) -> None:
    images = torch.randint(256, (number, 3, 5, 7), dtype=torch.uint8)
    expected = make_grid(images, nrow=columns, padding=1, pad_value=255).permute(1, 2, 0)
    assert torch.equal(torch.from_numpy(tiles(images, columns)), expected)
