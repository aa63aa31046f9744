"""Should finished latents be left a little noisy in training, and does that depend on its length? (LF Table 6)

    python -m sweeps.launch latent_noise seeds=[0,1,2]    # results/; 34 min of one core
    python -m sweeps.launch latent_noise preset=imagenet256 data=shards:PATH

While pixels are trained, the time of the latent is ``1 - β U[0,1]``: not fully clean, as in sampling. ``long`` is 200
epochs in the paper, and on `shapes` the length of the other ablations; ``short`` is two fifths of ``long``.

Published (ImageNet-256, FID-10K unguided) at 80 and 200 epochs: β 0 13.97, 16.47; 0.25 13.48, 10.93; 0.5 14.64, none.
"""

from collections.abc import Iterator

from sweeps.cells import Cell, Launch
from sweeps.presets import ABLATION

BETAS = (0.0, 0.25, 0.5)
SHORT = 2 / 5
LONG = {"shapes": 1.0, "imagenet256": 2.5}  # of an ablation's steps


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells."""
    for seed in launch.seeds:
        for length, share in (("long", 1.0), ("short", SHORT)):
            for beta in BETAS:
                times = share * LONG[launch.preset] * ABLATION[launch.preset]
                training = launch.model("lf", times, seed=seed, schedule={"beta": beta})
                yield from launch.scored({"latent_noise": beta, "length": length}, training)
