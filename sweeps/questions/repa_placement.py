"""Where should REPA act: in the tokenizer or in the diffusion model, and at which block? (method, REPA)

    python -m sweeps.launch repa_placement seeds=[0,1,2]    # results/; 65 min of one core
    python -m sweeps.launch repa_placement preset=imagenet256 data=shards:PATH

In pixels: JiT without alignment, and aligned at the input of each block. In latents: the same network over a tokenizer
that was trained without alignment and with it. Trainings are shared with `distillation` and `diffusability`.
"""

from collections.abc import Iterator

from sweeps.cells import Cell, Launch
from sweeps.questions.diffusability import latent_diffusion

BLOCKS = {"shapes": (1, 2, 3), "imagenet256": (4, 8, 12, 16, 20)}
CHANNELS = {"shapes": 8, "imagenet256": 16}


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells."""
    for seed in launch.seeds:
        places = {("pixels", "none"): launch.model("jit", seed=seed)}
        for block in BLOCKS[launch.preset]:
            places["pixels", f"block {block}"] = launch.model("repa", seed=seed, network={"repa_block": block})
        for place, aligned in (("none", False), ("tokenizer", True)):
            places["latents", place] = latent_diffusion(launch, CHANNELS[launch.preset], aligned, seed)
        for (space, place), training in places.items():
            yield from launch.scored({"space": space, "place": place}, training)
