"""Which order is best: pixels first, together, or latent first; and with two latents at once? (LF Fig. 3, Table 8)

    python -m sweeps.launch conditioning_order seeds=[0,1,2]
    python -m sweeps.launch conditioning_order preset=imagenet256 data=shards:PATH

Every order is trained for itself, and sampled from one `independent` model. With one latent there are three orders,
with two latents seven: the six cascades, and all streams together. Every training has the same budget.

Published: only latents first and its variants; one independent model is best with the latent ahead (`order_ablation`).
"""

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

from sweeps.cells import Cell, Launch

LATENTS: dict[str, tuple[tuple[dict[str, Any], ...], ...]] = {
    "shapes": (({"name": "tiny"},), ({"name": "tiny"}, {"name": "pixels", "cells": 2})),
    "imagenet256": (({"name": "dinov2"},), ({"name": "dinov2"}, {"name": "pixels", "unit": True})),
}


def orders(names: Sequence[str]) -> dict[str, list[Any]]:
    """Every cascade of the streams, and all of them together, by a title such as ``tiny → pixels``."""
    return {" → ".join(order): list(order) for order in permutations(names)} | {"together": [list(names)]}


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells, the longest trainings first."""
    steps = -(-launch.evaluate().steps // 6) * 6  # which two and three stages can share
    for seed in launch.seeds:
        for latents in reversed(LATENTS[launch.preset]):
            independent = launch.model("lf", seed=seed, latents=[*latents], schedule={"name": "independent"})
            names = independent.stream_names
            labels = {"latents": " and ".join(names[1:])}
            for title, order in orders(names).items():
                path = {"name": "cascaded", "order": order}
                told = {**labels, "order": title, "model": "independent"}
                yield from launch.scored(told, independent, path=path, steps=steps)
            for title, order in orders(names).items():
                trained = launch.model("lf", seed=seed, latents=[*latents], schedule={"order": order})
                yield from launch.scored({**labels, "order": title, "model": "trained for it"}, trained, steps=steps)
