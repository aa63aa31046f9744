"""Does the order of denoising matter, and for which latents? (LF Table 1, Fig. 3)

    python -m sweeps.launch order_ablation                   # toy, embedded data, one seed
    python -m sweeps.launch order_ablation seeds=[0,1,2]     # results/; 47 min of one core
    python -m sweeps.launch order_ablation preset=imagenet256 data=shards:PATH

For each latent, one `independent` model is sampled along `shifted` paths from pixels-first (alpha = 1/64) to
latents-first (alpha = 64) and along `cascaded`, with the same noise for every path. For comparison, at the same budget:
JiT (`pixel_only`) and a model trained for its order (`cascaded`).

Published (ImageNet-256, FID-10K unguided): DINOv2 55.35 at 1/64, 24.39 at 1, 18.65 at 16; pixels flat, 44.5 to 42.3.
"""

from collections.abc import Iterator
from typing import Any

from sweeps.cells import Cell, Launch

ALPHAS = (1 / 64, 1 / 16, 1 / 4, 1, 4, 16, 64)
LATENTS: dict[str, tuple[dict[str, Any], ...]] = {  # `cascaded` is trained with the last one
    "shapes": ({"name": "pixels", "cells": 2}, {"name": "tiny"}),
    "imagenet256": ({"name": "pixels", "unit": True}, {"name": "data2vec2", "eps": 0}, {"name": "dinov2"}),
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
        trained = {
            "cascaded": launch.model("lf", 1.0, seed=seed, latents=[latents[-1]]),
            "pixel_only": launch.model("jit", 1.0, seed=seed),
        }
        for name, training in trained.items():
            latent = training.latents[0].name if training.latents else "none"
            yield Cell({"latent": latent, "model": name, "seed": seed, "path": name}, training, launch.evaluate())
