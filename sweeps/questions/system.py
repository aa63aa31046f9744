"""How far does it get at length, with all parts and its best guidance? (LF Table 11)

    python -m sweeps.launch system seeds=[0,1,2]    # results/; 30 min of one core
    python -m sweeps.launch system preset=imagenet256 data=shards:PATH

JiT and LF with output experts, trained longer than in the ablations: two and a half times as long, on `shapes` twice.
LF is guided by CFG while the latent is denoised, and then by a weaker network (``guide=ID`` of preset `lf_s_guide`).

Published (ImageNet-256, 200 epochs, FID-50K unguided, guided): JiT-L 16.21, 2.79; LF-DiT-L 7.20, 2.48.
"""

from collections.abc import Iterator

from lf.config.presets import SYSTEM
from lf.core.parsing import merge
from sweeps.cells import Cell, Launch
from sweeps.questions.components import EXPERTS

LONGER = {"shapes": 1.0, "imagenet256": 2.5}  # of the preset's steps


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells."""
    full = {"n": 50_000} if launch.preset == "imagenet256" else {}
    for seed in launch.seeds:
        yield from launch.scored({"model": "JiT"}, launch.model("jit", LONGER[launch.preset], seed=seed), **full)
        forcing = launch.model("lf", LONGER[launch.preset], seed=seed, network={"expert_width": EXPERTS[launch.preset]})
        unguided, guided = launch.scored({"model": "LF"}, forcing, **full)
        yield unguided
        if launch.preset == "imagenet256" and launch.guide:
            settings = merge(SYSTEM, {"guidance": {"guide": launch.guide}})
            labels = {**guided.labels, "guidance": SYSTEM["guidance"]["kind"]}
            guided = Cell(labels, forcing, launch.evaluate(**settings, **full))
        yield guided
