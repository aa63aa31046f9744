"""For how long must the latent lead? (LF Fig. 3, right)

    python -m sweeps.launch lead seeds=[0,1,2]
    python -m sweeps.launch lead preset=imagenet256 data=shards:PATH

One `independent` model is sampled along paths on which the latent is made alone until ``t_latent = lead``, and then
ends together with the pixels. 0 is both streams together, 1 is latent first. The training is one of `order_ablation`.

Published (ImageNet-256, DINOv2): a lead until 0.15 has most of the gain.
"""

from collections.abc import Iterator

from sweeps.cells import Cell, Launch
from sweeps.questions.order_ablation import LATENTS

LEADS = (0.0, 0.05, 0.1, 0.15, 0.25, 0.4, 0.7, 1.0)


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells."""
    for seed in launch.seeds:
        latent = LATENTS[launch.preset][-1]
        training = launch.train(latents=[latent], schedule="independent", seed=seed)
        for lead in LEADS:
            points = [[0, 0], [0, lead], [1, 1]] if lead else [[0, 0], [1, 1]]
            yield from launch.scored({"lead": lead}, training, path={"name": "points", "points": points})
