"""Does the order of denoising matter, and for which latents? (LF Table 1, Fig. 3)

    python -m sweeps.launch order_ablation                   # toy, embedded data, one seed
    python -m sweeps.launch order_ablation seeds=[0,1,2]     # what results/order_ablation holds
    python -m sweeps.launch order_ablation preset=imagenet256 data=shards:PATH

One `independent` model a latent is sampled along `shifted` paths from pixels-first (alpha = 1/64) to latents-first
(alpha = 64) and along `cascaded`, with the same noise for every path. Beside them, at the same budget, JiT
(`pixel_only`) and a model trained for its order (`cascaded`).

Published (ImageNet-256, FID-10K unguided): DINOv2 55.35 at 1/64, 24.39 at 1, 18.65 at 16; pixels flat, 44.5 to 42.3.
"""

from collections.abc import Iterator
from typing import Any

from sweeps.plan import Cell, Launch

ALPHAS = (1 / 64, 1 / 16, 1 / 4, 1, 4, 16, 64)
CASCADED: dict[
    str, dict[str, Any]
] = {  # D_mean -1.2 suits 768 channels, whose noise averages out; 8 channels are told apart later
    "shapes": {"name": "cascaded", "D_mean": -0.4},
    "imagenet256": {"name": "cascaded"},
}
LATENTS: dict[str, tuple[dict[str, Any], ...]] = {  # `cascaded` is trained with the last one
    "shapes": ({"name": "pixels", "cells": 2}, {"name": "tiny"}),
    "imagenet256": ({"name": "pixels"}, {"name": "data2vec2"}, {"name": "dinov2"}),
}


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells, the longest trainings first."""
    latents = LATENTS[launch.preset]
    for seed in launch.seeds:
        for latent in reversed(latents):
            training = launch.train(latents=[latent], schedule="independent", seed=seed)
            labels = {"latent": latent["name"], "model": "independent", "seed": seed}
            for alpha in ALPHAS:
                path = {"name": "shifted", "alpha": alpha}
                yield Cell(labels | {"path": "shifted", "alpha": alpha}, training, launch.evaluate(path=path))
            yield Cell(labels | {"path": "cascaded"}, training, launch.evaluate(path="cascaded"))
        for schedule, given in ((CASCADED[launch.preset], [latents[-1]]), ({"name": "pixel_only"}, [])):
            name = given[0]["name"] if given else "none"
            labels = {"latent": name, "model": schedule["name"], "seed": seed, "path": schedule["name"]}
            yield Cell(labels, launch.train(latents=given, schedule=schedule, seed=seed), launch.evaluate())
