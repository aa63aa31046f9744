"""`shapes`: procedural images in which two distant objects must agree.

Every image has two objects, one in each half, of equal shape, hue and texture orientation. Their positions, sizes,
texture phases and the noise are random. The class is the hue of the background and is independent of the objects. So
what a sample must get right is the agreement over a distance.
"""

import numpy as np
import torch

from lf.data.base import Images

SHAPES = ("disc", "frame", "triangle", "cross")
HUES = 6
ORIENTATIONS = 4
CLASSES = ("red", "yellow", "green", "cyan", "blue", "magenta")  # hue of the background
KINDS = {"shape": len(SHAPES), "hue": HUES, "orientation": ORIENTATIONS}

PERIOD = 1 / 6  # of the texture, in image widths
NOISE = 0.04  # standard deviation, for pixels in [0, 1]
PART = 250  # images rendered at a time: as many as fit into the CPU's cache
VERSION = 1  # part of every image's seed: a new version is a new data set


def make(indices: range, resolution: int = 32, agree: bool = True) -> Images:
    """Renders the images of ``indices``; the same index always gives the same image.

    Args:
        indices: which images.
        resolution: height and width in pixels.
        agree: False: the two objects are drawn independently (so that the judge learns to read each by itself).
    """
    starts = range(0, max(len(indices), 1), PART)
    pixels, labels, kinds = zip(*(_part(indices[k : k + PART], resolution, agree) for k in starts), strict=True)
    drawn = np.concatenate(kinds)
    facts = {
        f"{place}.{kind}": torch.from_numpy(drawn[:, side, k].copy())
        for side, place in enumerate(("left", "right"))
        for k, kind in enumerate(KINDS)
    }
    images, classes = torch.from_numpy(np.concatenate(pixels)), torch.from_numpy(np.concatenate(labels))
    return Images("shapes", f"{VERSION} {indices}", images, classes, CLASSES, facts)


def _part(indices: range, resolution: int, agree: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels uint8, labels, and both objects' shape, hue and orientation ``(n, 2, 3)``, of some images."""
    n = len(indices)
    kinds = np.empty((n, 2, 3), np.int64)  # image, side, (shape, hue, orientation)
    free = np.empty((n, 2, 4))  # image, side, (x, y, size, phase)
    labels = np.empty(n, np.int64)
    noise = np.empty((n, 3, resolution, resolution), np.float32)
    for row, index in enumerate(indices):
        rng = np.random.Generator(np.random.Philox(key=[VERSION, index]))
        kinds[row] = rng.integers(0, list(KINDS.values()), (2, 3))
        free[row] = rng.random((2, 4))
        labels[row] = rng.integers(len(CLASSES))
        noise[row] = rng.standard_normal((3, resolution, resolution), np.float32)
    if agree:
        kinds[:, 1] = kinds[:, 0]

    axis = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution
    y, x = np.meshgrid(axis, axis, indexing="ij")
    image = _colour(labels / len(CLASSES), 0.5, 0.35)[:, :, None, None] * np.ones_like(x)
    for side in range(2):
        cx, cy, size, phase = free[:, side].T.astype(np.float32)[:, :, None, None]
        radius = 0.19 + 0.04 * size
        cx = 0.5 * side + radius + cx * (0.5 - 2 * radius)
        cy = 0.25 + 0.5 * cy
        mask = _mask(kinds[:, side, 0], x - cx, y - cy, radius, 1 / resolution)
        angle = (np.pi / ORIENTATIONS * kinds[:, side, 2]).astype(np.float32)[:, None, None]
        wave = np.cos(2 * np.pi * ((x * np.cos(angle) + y * np.sin(angle)) / PERIOD + phase))
        colour = _colour((kinds[:, side, 1] + 0.5) / HUES, 0.9, 1.0)[:, :, None, None]
        painted = colour * (0.6 + 0.4 * wave)[:, None]
        image = image + mask[:, None] * (painted - image)
    image = np.clip(image + NOISE * noise, 0, 1)
    return (image * 255).round().astype(np.uint8), labels, kinds


def _colour(hue: np.ndarray, saturation: float, value: np.ndarray | float) -> np.ndarray:
    """HSV → RGB, ``(N,)`` → ``(N, 3)`` in [0, 1]; hue in turns."""
    k = (np.array([5, 3, 1]) + 6 * hue[:, None]) % 6
    value = np.broadcast_to(value, hue.shape)[:, None]
    return (value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)).astype(np.float32)


def _mask(shape: np.ndarray, x: np.ndarray, y: np.ndarray, r: np.ndarray, pixel: float) -> np.ndarray:
    """Coverage in [0, 1] of each image's shape around the origin, with an edge one pixel wide."""
    ax, ay = abs(x), abs(y)
    inside = np.stack(
        [
            r - np.hypot(x, y),
            np.minimum(0.9 * r - np.maximum(ax, ay), np.maximum(ax, ay) - 0.45 * r),
            np.minimum(0.7 * r - y, (y + r) * 0.5 - 0.87 * ax),
            np.minimum(r - np.maximum(ax, ay), 0.38 * r - np.minimum(ax, ay)),
        ]
    )  # distance to the edge, positive inside: shape, image, row, column
    chosen = np.take_along_axis(inside, shape[None, :, None, None], 0)[0]
    return np.clip(chosen / pixel + 0.5, 0, 1)
