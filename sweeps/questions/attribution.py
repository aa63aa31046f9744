"""Of what a trained `cascaded` scores badly, how much is the plan, and how much the rendering?

    python -m sweeps.launch attribution seeds=[0,1,2]
    python -m sweeps.launch attribution preset=imagenet256 data=shards:PATH evaluation.given_data=shards:HELD_OUT

The latent is the plan, the pixels are its rendering. One network renders latents that it generated, and given latents
of held-out real images. What real ones gain is the plan's share. Both are also rendered with noise in them, to the same
degree: `noise` is the largest share that the training saw, and it hides small faults of a generated latent.

Published: nothing; LF's Table 7 has the same noise in generated latents.
"""

from collections.abc import Iterator

from sweeps.cells import Cell, Launch
from sweeps.questions.order_ablation import LATENTS

NOISE = (0.0, 0.25)


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells."""
    for seed in launch.seeds:
        for latent in reversed(LATENTS[launch.preset]):
            training = launch.model("lf", seed=seed, latents=[latent])
            name = training.stream_names[1]
            for noise in NOISE:
                labels = {"latent": name, "given": "no", "noise": noise}
                yield from launch.scored(labels, training, latent_noise=noise, given={}, given_data="")
                yield from launch.scored(labels | {"given": name}, training, given={name: 1 - noise})
