"""Shared by all figures: style, markers, axes, legends, tiles of images."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "grid.alpha": 0.3,
    "savefig.bbox": "tight",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "lf",
}
STYLES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX*"


def subplots(rows: int, columns: int, size: tuple[float, float], **shared: Any) -> tuple[Figure, Any]:
    """A figure and its axes ``[row][column]``, without pyplot, which keeps figures in memory until they are closed."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def legend(figure: Figure, ax: Axes) -> None:
    handles, names = ax.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8, frameon=False)


def tiles(images: Tensor, columns: int) -> Any:
    """Images uint8 ``(n, 3, H, W)`` as one array ``(height, width, 3)``, with a white pixel between them."""
    from torchvision.utils import make_grid  # imported here only: it takes a second

    return make_grid(images, nrow=columns, padding=1, pad_value=255).permute(1, 2, 0).numpy()


def show(ax: Any, images: Tensor, columns: int, names: Sequence[str] = ()) -> None:
    """Draws images ``(n, 3, H, W)`` unscaled, ``columns`` per row, with a name beside each row."""
    ax.imshow(tiles(images, columns), interpolation="none")  # exact pixels, and small files
    height = images.shape[-2] + 1
    ax.set_yticks([height * (k + 0.5) for k in range(len(names))], names, fontsize=7)
    ax.set_xticks([])
    ax.grid(False)
    ax.spines[:].set_visible(False)
