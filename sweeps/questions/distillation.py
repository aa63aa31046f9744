"""Is it better to denoise features first (LF), or to distil them into the network (REPA)? (LF Tables 9, 10)

    python -m sweeps.launch distillation seeds=[0,1,2]    # results/; 64 min of one core
    python -m sweeps.launch distillation preset=imagenet256 data=shards:PATH

Each is run with and without class labels. Without labels, classifier-free guidance does nothing; so on `shapes`, which
has no weaker network for AutoGuidance, those cells are only unguided.

Published (ImageNet-256, FID-50K unguided, guided) with labels: JiT 25.18, 5.64; JiT+REPA 18.60, 4.57; LF with DINOv2
9.76, 4.18, with Data2Vec2 12.46, 5.45. Without: 53.26, 44.80; 35.04, 24.40; 20.44, 13.36; 20.99, 15.56.
"""

from collections.abc import Iterator
from typing import Any

from lf.config import Training
from sweeps.cells import Cell, Launch

LATENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "shapes": ({"name": "tiny"}, {"name": "pixels", "cells": 2}),
    "imagenet256": ({"name": "dinov2"}, {"name": "data2vec2"}),
}
LABELS: dict[str, dict[str, Any]] = {"conditional": {}, "unconditional": {"label_dropout": 1.0}}


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells."""
    first, second = LATENTS[launch.preset]
    for seed in launch.seeds:
        for labels, dropped in LABELS.items():
            models: dict[tuple[str, str], Training] = {
                ("JiT", "none"): launch.model("jit", seed=seed, **dropped),
                ("JiT+REPA", first["name"]): launch.model("repa", seed=seed, **dropped),
                ("LF", first["name"]): launch.model("lf", seed=seed, latents=[first], **dropped),
                ("LF", second["name"]): launch.model("lf", seed=seed, latents=[second], **dropped),
            }
            for (model, latent), training in models.items():
                yield from launch.scored({"model": model, "latent": latent, "labels": labels}, training)
