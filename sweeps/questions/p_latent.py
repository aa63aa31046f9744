"""How many of the training steps should be the latent's? (LF Table 2)

    python -m sweeps.launch p_latent seeds=[0,1,2]    # results/; 26 min of one core
    python -m sweeps.launch p_latent preset=imagenet256 data=shards:PATH

Published (ImageNet-256, FID-10K unguided): 12.54 at 0.3, 12.42 at 0.4, 12.77, 13.17, 13.48, 16.13 at 0.8.
"""

from collections.abc import Iterator

from sweeps.cells import Cell, Launch

SHARES = {"shapes": (0.2, 0.4, 0.6, 0.8), "imagenet256": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)}


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells."""
    for seed in launch.seeds:
        for share in SHARES[launch.preset]:
            training = launch.model("lf", seed=seed, schedule={"p_latent": share})
            yield from launch.scored({"p_latent": share}, training)
