"""Should finished latents be given fresh noise in sampling? (LF Table 7)

    python -m sweeps.launch inference_noise seeds=[0,1,2]    # results/; 12 min of one core
    python -m sweeps.launch inference_noise preset=imagenet256 data=shards:PATH

One training is sampled with an increasing share of fresh noise in its finished latents. The training is one of
`latent_noise`.

Published (ImageNet-256, 200 epochs, β 0.25, FID-10K unguided): 10.93 without, 11.07 at 0.05, 11.46, 11.81, 12.55 at
0.25.
"""

from collections.abc import Iterator

from sweeps.cells import Cell, Launch
from sweeps.questions.latent_noise import LONG

SHARES = (0.0, 0.05, 0.1, 0.15, 0.25)


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells."""
    for seed in launch.seeds:
        training = launch.model("lf", LONG[launch.preset], seed=seed, schedule={"beta": 0.25})
        for share in SHARES:
            yield from launch.scored({"inference_noise": share}, training, latent_noise=share)
