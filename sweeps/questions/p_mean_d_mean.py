"""At which times should pixels (P_mean) and latents (D_mean) be trained most? (LF Tables 3, 4)

    python -m sweeps.launch p_mean_d_mean seeds=[0,1,2]    # results/; 36 min of one core
    python -m sweeps.launch p_mean_d_mean preset=imagenet256 data=shards:PATH

One of the two means of the logit-normal is changed, the other stays. A latent of 8 channels becomes distinct from noise
later than one of 768, so the values of D_mean on the toy differ from the paper's.

Published (ImageNet-256, FID-10K unguided): D_mean -1.0 14.11, -1.2 13.97, -1.4 14.41; P_mean 0 18.28, -0.4 16.13,
-0.8 16.38.
"""

from collections.abc import Iterator

from sweeps.cells import Cell, Launch

P_MEANS = (0.0, -0.4, -0.8)
D_MEANS = {"shapes": (0.4, -0.4, -1.2), "imagenet256": (-1.0, -1.2, -1.4)}  # the middle one is LF's own


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells; the one with both of LF's means occurs once."""
    d_means = D_MEANS[launch.preset]
    pairs = dict.fromkeys([*((d, P_MEANS[1]) for d in d_means), *((d_means[1], p) for p in P_MEANS)])
    for seed in launch.seeds:
        for d, p in pairs:
            training = launch.model("lf", seed=seed, schedule={"D_mean": d, "P_mean": p})
            yield from launch.scored({"D_mean": d, "P_mean": p}, training)
