"""Figures of the measurements of `analysis.probe`: how much each stream predicts of the other, and a trajectory."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from safetensors import safe_open
from torch import Tensor

from analysis.figures import schedules
from analysis.figures.style import MARKERS, STYLES, show, subplots
from analysis.folders import measured

SHORT = 12  # characters of a path's name beside a figure of the usual width


def read(frame: pd.DataFrame) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The measured arrays and their metadata; empty if there are none, or of a training that is not in the rows."""
    for file in measured(frame):
        with safe_open(file, "pt") as opened:
            meta = json.loads(opened.metadata()["lf"])
            if meta["run"] in set(frame.training_id):
                return {name: opened.get_tensor(name) for name in opened.keys()}, meta  # noqa: SIM118 (it is no dict)
    return {}, {}


def figures(frame: pd.DataFrame, runs: Path | None) -> dict[str, Figure | None]:
    """The figures by name; none if nothing was measured."""
    found, meta = read(frame)
    if not found:
        return {}
    names = _names(meta)
    made = {"cross_psnr": cross_psnr(found, names), "difficulty": difficulty(found, names, frame, runs)}
    made |= {"structure": structure(found), "film": strip(found, names)}
    for figure in made.values():
        figure.suptitle(_network(meta), fontsize=8)
    return {**made}


def findings(frame: pd.DataFrame) -> list[str]:
    """Findings from the square of times, as sentences; none if nothing was measured."""
    found, meta = read(frame)
    if not found:
        return []
    psnr, kept, (latents, pixels) = found["psnr"], found["structure"], found["pair"].tolist()
    gained = [(of - alone).max() for of, alone in zip(psnr, _alone(psnr), strict=True)]
    same = int((psnr[0, :, 0] - pixels).abs().argmin())
    names = _names(meta)
    told = ", ".join(f"{gain:.1f} dB of the {name}" for gain, name in zip(gained[1:], names[1:], strict=True))
    by = "the latent tells" if len(names) == 2 else "the latents tell"
    return [
        f"Measured on {meta['schedule']} with {meta['latents']}, seed {meta['seed']}, over {meta['images']} images: "
        f"{by} up to {gained[0]:.1f} dB of the pixels, the pixels up to {told}.",
        f"Told by the latent{'s' * (len(names) > 2)} alone (t = {found['times'][-1]:.1f}) "
        f"an image has {latents:.1f} dB and its edges correlate by {kept[0, -1]:.2f} with the true ones; "
        f"told by noisy pixels it has {pixels:.1f} dB and {kept[same, 0]:.2f}.",
    ]


def _network(meta: dict[str, str]) -> str:
    """The measured network, as a title."""
    return f"{meta['schedule']} with {meta['latents']}, seed {meta['seed']}"


def filmed(frame: pd.DataFrame) -> tuple[str, Sequence[str]]:
    """The network of the measured trajectory, as a title, and the names of its streams; empty if there is none."""
    _, meta = read(frame)
    return (_network(meta), _streams(meta)) if meta else ("", ())


def _streams(meta: dict[str, str]) -> list[str]:
    """The names of the streams."""
    return ["pixels", *meta["latents"].split(", ")]


def _names(meta: dict[str, str]) -> list[str]:
    """The names of the streams in figures: with one latent, ``pixels`` and ``latent``."""
    names = _streams(meta)
    return names if len(names) > 2 else ["pixels", "latent"]


def _alone(psnr: Tensor) -> list[Tensor]:
    """PSNR of the pixels if the latents are noise, and of each latent if the pixels are; the reference for the gain."""
    return [psnr[0][:, :1], *(latent[:1, :] for latent in psnr[1:])]


def surface(ax: Any, times: Tensor, values: Tensor, label: str, latents: str = "latent") -> None:
    """Draws values over the square of times, as shades and contour lines."""
    edge = times.tolist()
    shaded = ax.contourf(edge, edge, values.T, levels=12, cmap="cividis")
    ax.contour(edge, edge, values.T, levels=12, colors="k", linewidths=0.3)
    ax.figure.colorbar(shaded, ax=ax, shrink=0.8)
    ax.set(xlabel="$t$ pixels", ylabel=f"$t$ {latents}", aspect="equal")
    ax.set_title(label, fontsize=8)


def cross_psnr(found: dict[str, Tensor], names: Sequence[str]) -> Figure:
    """PSNR of each stream's prediction over the square, and the gain from the other side (as in LF Fig. 5)."""
    psnr, times = found["psnr"], found["times"]
    figure, axes = subplots(len(names), 2, (7, 3 * len(names)))
    others = ["latents" if len(names) > 2 else "latent", *["pixels"] * (len(names) - 1)]
    for row, name, other, of, alone in zip(axes, names, others, psnr, _alone(psnr), strict=True):
        surface(row[0], times, of, f"PSNR of predicted {name} (dB)", others[0])
        surface(row[1], times, of - alone, f"gained from the {other} (dB)", others[0])
    return figure


def difficulty(found: dict[str, Tensor], names: Sequence[str], frame: pd.DataFrame, runs: Path | None) -> Figure:
    """The unexplained share of the streams over the square, with the sweep's paths.

    It is the prediction's squared error divided by the stream's variance, averaged over pixels and the first latent. Of
    several latents, a path shows the mean time.
    """
    followed = list(schedules.followed(frame, runs).items())[:8]
    longest = max((len(name) for name, _ in followed), default=0)
    figure, axes = subplots(1, 1, (5.4 + 0.07 * max(0, longest - SHORT), 3.5))
    ax = axes[0][0]
    streams = "both streams" if len(names) == 2 else f"{names[0]} and {names[1]}"
    latents = "latent" if len(names) == 2 else "latents"
    shares, title = found["unexplained"][:2].mean(0), f"share of {streams} that is unexplained"
    surface(ax, found["times"], shares, title, latents)
    known = schedules.colours(frame, runs)
    for i, (name, (schedule, _)) in enumerate(followed):
        if schedule.streams > 1:
            path = schedule.path(schedule.steps_from(24))
            x, y = path[:, 0], path[:, 1:].mean(1)
            ax.plot(x, y, "-", color="w", linewidth=2.6)
            ax.plot(x, y, STYLES[i % 4], color=known[schedules.curve_of(schedule)], linewidth=1.4, label=name)
    edge = found["times"][-1].item()
    ax.set(xlim=(0, edge), ylim=(0, edge))
    figure.legend(loc="outside right center", fontsize=7)
    return figure


def structure(found: dict[str, Tensor]) -> Figure:
    """Edge correlation against PSNR, predicted from latents or pixels only; images of equal PSNR (as LF Fig. 4)."""
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


def strip(found: dict[str, Tensor], names: Sequence[str], images: int = 3) -> Figure:
    """A trajectory from noise to image: pixels above; below, each latent's three principal axes as colours."""
    film, times = found["film"], found["film_times"]
    figure, axes = subplots(1, 1, (0.62 * len(film) + 1, 0.66 * len(names) * images + 0.7))
    rows = film[:, :, :images].permute(2, 1, 0, 3, 4, 5).flatten(0, 1)  # (image, stream) by frame
    show(axes[0][0], rows.flatten(0, 1), len(film), [*names] * images)
    width = film.shape[-1] + 1
    ticks = [width * (k + 0.5) for k in range(len(film))]
    axes[0][0].set_xticks(ticks, ["\n".join(f"{now:.2f}" for now in t) for t in times.tolist()], fontsize=7)
    axes[0][0].set_xlabel(" above ".join(f"$t$ {name}" for name in names), fontsize=8)
    return figure


def film(frame: pd.DataFrame, runs: Path | None) -> list[tuple[str, Tensor]]:
    """Frames of the measured trajectory for a slider: a label ``t pixels 0.50, t tiny 1.00``, and all streams."""
    found, meta = read(frame)
    if not found:
        return []
    times = found["film_times"].tolist()
    names = _streams(meta)
    said = [", ".join(f"t {name} {now:.2f}" for name, now in zip(names, t, strict=True)) for t in times]
    return [(label, images.flatten(0, 1)) for label, images in zip(said, found["film"], strict=True)]
