"""Which single schedule is best: one stream after the other, an offset, or a variance shift? (LF Table 8)

    python -m sweeps.launch single_schedule seeds=[0,1,2]    # results/; 19 min of one core
    python -m sweeps.launch single_schedule preset=imagenet256 data=shards:PATH

Each model is trained for one schedule and sampled along it. α and the offset are the paper's best; the training times
of the latent have the same distribution in all three.

Published (ImageNet-256, FID-10K unguided, guided): cascaded 12.42, 6.60; shifted by 9 13.48, 8.16; offset by 0.1 20.98,
10.73.
"""

from collections.abc import Iterator

from sweeps.cells import Cell, Launch

SCHEDULES = ("cascaded", "shifted", "offset")


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells."""
    latent = launch.model("lf").schedule.model_dump(include={"D_mean", "D_std"})
    for seed in launch.seeds:
        for name in SCHEDULES:
            training = launch.model("lf", seed=seed, schedule={"name": name, **latent})
            yield from launch.scored({"model": name}, training)
