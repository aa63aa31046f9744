"""Figures of what `analysis.measure` stored: what each stream tells of the other, and a trajectory."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from safetensors import safe_open
from torch import Tensor
from torchvision.utils import make_grid

from analysis import order, results
from analysis.order import MARKERS, STYLES, subplots

NAMES = ("pixels", "latent")


def read(frame: pd.DataFrame) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The arrays and what is told of them; empty where nothing was measured, or a training of other rows."""
    file = results.RESULTS / frame.attrs["sweep"] / "measured.safetensors"
    if not file.exists():
        return {}, {}
    with safe_open(file, "pt") as opened:
        told = json.loads(opened.metadata()["lf"])
        if told["run"] not in set(frame.training_id):
            return {}, {}
        return {name: opened.get_tensor(name) for name in opened.keys()}, told  # noqa: SIM118 (it is no dict)


def figures(frame: pd.DataFrame, runs: Path | None) -> dict[str, Figure | None]:
    """The figures by name; none where nothing was measured."""
    found, told = read(frame)
    if not found:
        return {}
    made = {"cross_psnr": cross_psnr(found), "difficulty": difficulty(found, frame, runs)}
    made |= {"structure": structure(found), "film": strip(found)}
    for figure in made.values():
        figure.suptitle(f"{told['schedule']} with {told['latents']}, seed {told['seed']}", fontsize=8)
    return {**made}


def findings(frame: pd.DataFrame) -> list[str]:
    """What the square of times says, in sentences; none where nothing was measured."""
    found, told = read(frame)
    if not found:
        return []
    psnr, kept, (latents, pixels) = found["psnr"], found["structure"], found["pair"].tolist()
    gained = [(psnr[s] - alone).max() for s, alone in enumerate(_alone(psnr))]
    same = int((psnr[0, :, 0] - pixels).abs().argmin())
    return [
        f"Measured on {told['schedule']} with {told['latents']}, seed {told['seed']}, over {told['images']} images: "
        f"the latent tells up to {gained[0]:.1f} dB of the pixels, the pixels up to {gained[1]:.1f} dB of the latent.",
        f"Told by the latent alone (t = {found['times'][-1]:.1f}) an image has {latents:.1f} dB and its edges "
        f"correlate by {kept[0, -1]:.2f} with the true ones; told by noisy pixels it has {pixels:.1f} dB and "
        f"{kept[same, 0]:.2f}.",
    ]


def _alone(psnr: Tensor) -> tuple[Tensor, Tensor]:
    """PSNR of pixels and of the latent where the other stream is noise, to be subtracted from theirs."""
    return psnr[0][:, :1], psnr[1][:1, :]


def surface(ax: Any, times: Tensor, values: Tensor, label: str, **style: Any) -> None:
    """Values over the square of times, shade and contour lines."""
    edge = times.tolist()
    shaded = ax.contourf(edge, edge, values.T, levels=12, cmap="cividis", **style)
    ax.contour(edge, edge, values.T, levels=12, colors="k", linewidths=0.3)
    ax.figure.colorbar(shaded, ax=ax, shrink=0.8)
    ax.set(xlabel="$t$ pixels", ylabel="$t$ latent", aspect="equal")
    ax.set_title(label, fontsize=8)


def cross_psnr(found: dict[str, Tensor]) -> Figure:
    """PSNR of each stream's prediction over the square, and what the other stream adds to it (as LF Fig. 5)."""
    psnr, times = found["psnr"], found["times"]
    figure, axes = subplots(2, 2, (7, 6))
    alone = _alone(psnr)
    for s, name in enumerate(NAMES):
        surface(axes[s][0], times, psnr[s], f"PSNR of predicted {name} (dB)")
        surface(axes[s][1], times, psnr[s] - alone[s], f"gained from the {NAMES[1 - s]} (dB)")
    return figure


def difficulty(found: dict[str, Tensor], frame: pd.DataFrame, runs: Path | None) -> Figure:
    """How much of both streams is not known yet, and how the sweep's paths cross it.

    Unexplained is the prediction's squared error over the stream's variance, averaged over pixels and first latent.
    """
    figure, axes = subplots(1, 1, (5.4, 3.5))
    ax = axes[0][0]
    surface(ax, found["times"], found["unexplained"][:2].mean(0), "share of both streams that is unexplained")
    for i, (name, schedule) in enumerate(list(order.followed(frame, runs).items())[:8]):
        if schedule.streams > 1:
            path = schedule.path(24)
            ax.plot(path[:, 0], path[:, 1], STYLES[i % 4], color="w", linewidth=2.6)
            ax.plot(path[:, 0], path[:, 1], STYLES[i % 4], color=f"C{i}", linewidth=1.4, label=name)
    edge = found["times"][-1].item()
    ax.set(xlim=(0, edge), ylim=(0, edge))
    figure.legend(loc="outside right center", fontsize=7)
    return figure


def structure(found: dict[str, Tensor]) -> Figure:
    """Edges kept against PSNR, told by latents alone or pixels alone; and images of equal PSNR (after LF Fig. 4)."""
    figure, axes = subplots(1, 2, (9, 3.2))
    graph, pictures = axes[0]
    psnr, kept = found["psnr"][0], found["structure"]
    for i, (x, y, name) in enumerate(((psnr[0], kept[0], "latents"), (psnr[:, 0], kept[:, 0], "pixels"))):
        graph.plot(x, y, STYLES[i], marker=MARKERS[i], label=f"told by {name} alone, t = 0 … 0.9")
    graph.set(xlabel="PSNR of the predicted image (dB)", ylabel="correlation of edges with the true image's")
    graph.legend(fontsize=7)
    a, b = found["pair"].tolist()
    names = ["true", f"from latents\n{a:.1f} dB", f"from pixels\n{b:.1f} dB"]
    show(pictures, found["shown"].flatten(0, 1), found["shown"].shape[1], names)
    return figure


def strip(found: dict[str, Tensor], images: int = 3) -> Figure:
    """A trajectory from noise to image: pixels above, the latent's three main axes as colours below."""
    film, times = found["film"], found["film_times"]
    figure, axes = subplots(1, 1, (0.62 * len(film) + 1, 0.66 * 2 * images + 0.7))
    rows = film[:, :, :images].permute(2, 1, 0, 3, 4, 5).flatten(0, 1)  # (image, stream) by frame
    show(axes[0][0], rows.flatten(0, 1), len(film), [*NAMES] * images)
    width = film.shape[-1] + 1
    ticks = [width * (k + 0.5) for k in range(len(film))]
    axes[0][0].set_xticks(ticks, [f"{t[0]:.2f}\n{t[1]:.2f}" for t in times.tolist()], fontsize=7)
    axes[0][0].set_xlabel("$t$ pixels above $t$ latent", fontsize=8)
    return figure


def tiles(images: Tensor, columns: int) -> Any:
    """Images uint8 ``(n, 3, H, W)`` as one array ``(height, width, 3)``, a white pixel between them."""
    return make_grid(images, nrow=columns, padding=1, pad_value=255).permute(1, 2, 0).numpy()


def show(ax: Any, images: Tensor, columns: int, names: Sequence[str] = ()) -> None:
    """Images ``(n, 3, H, W)`` as they are, ``columns`` in a row, with a name beside each row."""
    ax.imshow(tiles(images, columns), interpolation="none")  # every pixel as it is, and small files
    height = images.shape[-2] + 1
    ax.set_yticks([height * (k + 0.5) for k in range(len(names))], names, fontsize=7)
    ax.set_xticks([])
    ax.grid(False)
    ax.spines[:].set_visible(False)


def film(frame: pd.DataFrame, runs: Path | None) -> list[tuple[str, Tensor]]:
    """Frames of the measured trajectory for a slider: ``t pixels 0.50, t latent 1.00`` and images of both streams."""
    found, _ = read(frame)
    if not found:
        return []
    times = found["film_times"].tolist()
    said = [f"t pixels {t[0]:.2f}, t latent {t[1]:.2f}" for t in times]
    return [(label, images.flatten(0, 1)) for label, images in zip(said, found["film"], strict=True)]
