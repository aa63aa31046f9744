"""`python -m benchmarks sample [key=value …]`: sampling from Latent Forcing with experts, cascaded, random weights.

    python -m benchmarks sample resolution=64 rounds=2
    python -m benchmarks sample steps=10 n=4

The cases are the guidance of the presets `lf_l_200` (CFG with its interval, then AutoGuidance) and `lf_l_imagenet256`
(AutoGuidance), and none. On a GPU: size=LM resolution=256 n=64 dtype=bfloat16.
"""

from collections.abc import Sequence
from functools import cache, partial

import torch
from pydantic import Field
from torch import Tensor, nn

from benchmarks import baseline
from benchmarks.core import Bench, compare, config_of, counted
from lf.config import Sampling, Training, preset
from lf.config.schema import Names
from lf.core.errors import UserError, nearest
from lf.core.parsing import merge, parse
from lf.diffusion.solver import sample
from lf.model.denoiser import LatentForcing
from lf.training.flops import forward_flops

CASES = {"unguided": "lf_s_guide", "cfg_then_autoguidance": "lf_l_200", "autoguidance": "lf_l_imagenet256"}


class Sample(Bench):
    """The keys of the command line."""

    cases: Names = Field(tuple(CASES), description="kinds of guidance")
    size: str = Field("S", description="size of the network; the guide has the preset's size, S")
    resolution: int = Field(128, description="height and width of the images, in pixels; the patch is 16")
    steps: int = Field(50, ge=2, description="Heun steps")
    n: int = Field(1, ge=1, description="images per call, in one batch")


def network(name: str, config: Sample, **changes: object) -> LatentForcing:
    """A preset's network with random weights, also where training starts at zero."""
    values = merge(preset(name)["training"], {"resolution": config.resolution, **changes})
    torch.manual_seed(0)
    model = LatentForcing(parse(Training, values), classes=1000)
    for p in model.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.02)
    nn.init.normal_(model.network.label.weight)  # large enough that guidance has an effect
    if config.runtime.compile:
        model.compile_blocks()
    return model.to(config.runtime.torch_device).eval().requires_grad_(False)


def needed(model: LatentForcing, guide: LatentForcing, sampling: Sampling) -> int:
    """FLOPs that one image needs: one pass per velocity, a second one where some scale is not 1, and in both only the
    heads of the streams that move."""
    names, total, flops = [s.name for s in model.streams], 0, cache(forward_flops)

    def velocity(z: list[Tensor], t: Sequence[float], moves: Sequence[bool]) -> list[Tensor | None]:
        nonlocal total
        total += flops(model.network, tuple(moves))
        if any(m and s != 1 for m, s in zip(moves, sampling.guidance.scales(names, t), strict=True)):
            weak = guide if sampling.guidance.by_guide(t[1:], any(moves[1:])) else model
            total += flops(weak.network, tuple(moves))
        return list(z)

    sample(velocity, [torch.zeros(1)] * len(names), sampling.path_for(model.config), sampling.solver)
    return total


def main(argv: list[str]) -> None:
    config = config_of(argv, Sample, __doc__)
    for case in config.cases:
        if case not in CASES:
            raise UserError(f"cases={case}: unknown; {nearest(case, CASES)}")
    model, guide = network("lf_l_200", config, network={"size": config.size}), network("lf_s_guide", config)
    for case in config.cases:
        values = preset(CASES[case])["evaluation"]
        sampling = parse(Sampling, {
            **{key: value for key, value in values.items() if key in Sampling.model_fields},
            "steps": config.steps, "dtype": config.dtype,
        })  # fmt: skip

        def straightforward(n: int, sampling: Sampling = sampling) -> Tensor:
            return baseline.images(model, guide, sampling, range(n))

        def ours(n: int, sampling: Sampling = sampling) -> Tensor:
            return torch.cat([*model.samples(range(n), sampling, guide=guide, batch=n)])

        works = {"baseline": straightforward, "lf": ours}
        apart = (ours(1) - straightforward(1)).abs().max().item()
        compare(
            f"{case}: {config.size}, {config.resolution} px, {config.steps} steps, batch {config.n}",
            {name: partial(work, config.n) for name, work in works.items()},
            config,
            items=config.n,
            needed=config.n * needed(model, guide, sampling),
            done={name: config.n * counted(partial(work, 1)) for name, work in works.items()},
            said={"lf": {"largest_difference": apart}},
        )
