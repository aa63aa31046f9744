"""Shared by all figures: style, markers, axes, legends, tiles of images."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import pad

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
    """Images uint8 ``(n, 3, H, W)`` as one array ``(height, width, 3)``, with a white pixel around each of several."""
    n, channels, height, width = images.shape
    if n == 1:
        return images[0].permute(1, 2, 0).numpy()
    columns = min(columns, n)
    rows = -(-n // columns)
    grid = images.new_full((rows * columns, channels, height + 1, width + 1), 255)
    grid[:n, :, 1:, 1:] = images
    whole = grid.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    return pad(whole, (0, 0, 0, 1, 0, 1), value=255).numpy()


def show(ax: Any, images: Tensor, columns: int, names: Sequence[str] = ()) -> None:
    """Draws images ``(n, 3, H, W)`` unscaled, ``columns`` per row, with a name beside each row."""
    ax.imshow(tiles(images, columns), interpolation="none")  # exact pixels, and small files
    height = images.shape[-2] + 1
    ax.set_yticks([height * (k + 0.5) for k in range(len(names))], names, fontsize=7)
    ax.set_xticks([])
    ax.grid(False)
    ax.spines[:].set_visible(False)
