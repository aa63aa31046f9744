"""Does a tokenizer that reconstructs better generate better? (LF Figs. 4, 5 and discussion)

    python -m sweeps.launch diffusability seeds=[0,1,2]    # results/; 38 min of one core
    python -m sweeps.launch diffusability preset=imagenet256 data=shards:PATH

Latent diffusion through tokenizers of several rates, each plain and aligned to an encoder (REPA in the tokenizer).
Beside the score of generated images, a row has the scores of held-out images that the tokenizer reconstructed
(``psnr``, ``rfd``).
"""

from collections.abc import Iterator
from typing import Any

from lf.config import Training
from sweeps.cells import Cell, Launch

CHANNELS = {"shapes": (2, 8, 32), "imagenet256": (4, 16, 32)}
STRIDE = {"shapes": 4, "imagenet256": 16}
ALIGNED_TO = {"shapes": "tiny", "imagenet256": "dinov2"}
D_MEAN = {"shapes": -0.4, "imagenet256": -1.2}


def latent_diffusion(launch: Launch, channels: int, aligned: bool, seed: int) -> Training:
    """The training of JiT's network over the latents of a tokenizer."""
    tokenizer: dict[str, Any] = {"name": "autoencoder", "dim": channels, "stride": STRIDE[launch.preset]}
    if aligned:
        tokenizer["align"] = {"name": ALIGNED_TO[launch.preset]}
    schedule = {"name": "latent_only", "D_mean": D_MEAN[launch.preset]}
    return launch.model("jit", seed=seed, latents=[tokenizer], schedule=schedule)


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells."""
    for seed in launch.seeds:
        for aligned in (False, True):
            for channels in CHANNELS[launch.preset]:
                training = latent_diffusion(launch, channels, aligned, seed)
                labels = {"tokenizer": "aligned" if aligned else "plain", "channels": channels}
                yield from launch.scored(labels, training)
