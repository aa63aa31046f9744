"""Which single schedule is best: one stream after the other, an offset, or a variance shift? (LF Table 8)

    python -m sweeps.launch single_schedule seeds=[0,1,2]
    python -m sweeps.launch single_schedule preset=imagenet256 data=shards:PATH

Each model is trained for its one schedule and sampled along it; the parameters are the paper's best.

Published (ImageNet-256, FID-10K unguided, guided): cascaded 12.42, 6.60; shifted by 9 13.48, 8.16; offset by 0.1 20.98,
10.73.
"""

from collections.abc import Iterator

from sweeps.plan import Cell, Launch

SCHEDULES: dict[str, dict[str, str]] = {"cascaded": {}, "shifted": {"name": "shifted"}, "offset": {"name": "offset"}}


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells."""
    for seed in launch.seeds:
        for name, schedule in SCHEDULES.items():
            yield from launch.scored({"model": name}, launch.model("lf", seed=seed, schedule=schedule))
