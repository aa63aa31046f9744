"""Which parts of Latent Forcing matter: output experts, early pixel times? (LF Table 5)

    python -m sweeps.launch components seeds=[0,1,2]    # results/; 28 min of one core
    python -m sweeps.launch components preset=imagenet256 data=shards:PATH

``all`` has an output expert per stream and draws a tenth of the pixel times from the earliest half, where the
logit-normal has little mass. Each of the others lacks one of the two.

Published (ImageNet-256, FID-10K unguided): all 12.42, no experts 12.93, no early pixel times 12.98.
"""

from collections.abc import Iterator
from typing import Any

from sweeps.cells import Cell, Launch

EXPERTS = {"shapes": 128, "imagenet256": 1024}


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells."""
    experts = {"expert_width": EXPERTS[launch.preset]}
    variants: dict[str, dict[str, Any]] = {
        "all": {"network": experts},
        "no experts": {"network": {"expert_width": 0}},
        "no early pixels": {"network": experts, "schedule": {"early": 0.0}},
    }
    for seed in launch.seeds:
        for name, changes in variants.items():
            yield from launch.scored({"components": name}, launch.model("lf", seed=seed, **changes))
