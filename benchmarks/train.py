"""`python -m benchmarks train [key=value …]`: the steps of real trainings, their first ones left out.

The cases are JiT, Latent Forcing with one head, and with experts. On a GPU: preset=lf_l_imagenet256 data=shards:PATH
batch=… dtype=bfloat16 cases=experts; add `latents` there by caching them first (`python -m lf.encoders.cache`).
"""

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from pydantic import Field

from benchmarks import baseline
from benchmarks.core import Bench, compare, config_of, now, show
from lf.config import DType, Names, Training, merge, parse, preset
from lf.errors import UserError, nearest
from lf.flops import forward_flops
from lf.log import Log
from lf.network import Network
from lf.train import train

SKIPPED = 10  # steps, in which it may compile
SHOWN = 16  # operations of a profile
CASES: dict[str, dict[str, Any]] = {
    "jit": {"schedule": {"name": "pixel_only"}, "latents": [], "network": {"expert_width": 0}},
    "lf": {"schedule": {"name": "cascaded"}, "network": {"expert_width": 0}},
    "experts": {"schedule": {"name": "cascaded"}},
}


class Train(Bench):
    """What the command takes."""

    cases: Names = Field(tuple(CASES), description="kinds of network")
    preset: str = "shapes"
    data: str = Field("shapes", description="see lf.data")
    latent: str | dict[str, Any] = Field("tiny", description="encoder of the latent stream")
    expert_width: int = Field(256, description="of the case `experts`")
    batch: int = Field(64, ge=1, description="images a step")
    steps: int = Field(100, ge=1, description="of a training, after those that may compile")
    dtype: DType = "bfloat16"
    profile: bool = Field(False, description="print what the steps of `lf` spend their time in, too")


def needed(config: Training) -> float:
    """Operations of a step: a pass and its backward of all images, of each only the heads that its loss looks at."""
    with torch.device("meta"):
        network = Network(config.network, config.streams, 1000)
    weight = config.schedule.sample(10_000, generator=torch.Generator().manual_seed(0)).weight
    k = weight.shape[1]
    whole = forward_flops(network)
    heads = [whole - forward_flops(network, [j != i for j in range(k)]) for i in range(k)]
    shares = (weight > 0).double().mean(0).tolist()
    return 3 * config.batch * (whole - sum(head * (1 - share) for head, share in zip(heads, shares, strict=True)))


class Watched(Log):
    """The log of a training, which also times, and may profile, the steps that come after the first ones."""

    seconds = 0.0
    profiler: torch.profiler.profile | None = None

    def step(self, step: int, losses: torch.Tensor) -> None:
        super().step(step, losses)
        if step == SKIPPED:
            if Watched.profiler:
                Watched.profiler.start()
            Watched.seconds = -now(self.world.device)
        if step == self.run.training.steps:
            Watched.seconds += now(self.world.device)
            if Watched.profiler:
                Watched.profiler.stop()


def spent(profiler: torch.profiler.profile, steps: int) -> list[dict[str, Any]]:
    """The operations that take most, of the device if there is one, each without those that it calls."""
    taken: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    on_device = any(event.self_device_time_total for event in profiler.key_averages())
    for event in profiler.key_averages():
        name = "kernels of the compiler" if "CompiledFxGraph" in event.key else event.key[:60]
        taken[name] += event.self_device_time_total if on_device else event.self_cpu_time_total
        calls[name] += event.count
    return [
        {
            "operation": name,
            "share": micros / taken.total(),
            "ms_a_step": micros / steps / 1e3,
            "calls_a_step": calls[name] / steps,
        }
        for name, micros in taken.most_common(SHOWN)
    ]


def main(argv: list[str]) -> None:
    config = config_of(argv, Train, __doc__)
    for case in config.cases:
        if case not in CASES:
            raise UserError(f"cases={case}: unknown; {nearest(case, CASES)}")
    with tempfile.TemporaryDirectory() as runs:
        for case in config.cases:
            given = {key: getattr(config, key) for key in ("data", "batch", "dtype")} | {
                "steps": config.steps + SKIPPED
            }
            given |= {"latents": [config.latent], "network": {"expert_width": config.expert_width}}
            given |= {"runtime": {**config.runtime.model_dump(), "runs": runs, "checkpoint_seconds": 1e9}}
            training = parse(Training, merge(merge(preset(config.preset)["training"], given), CASES[case]))

            def straightforward(training: Training = training) -> float:
                return baseline.train(training, SKIPPED)

            def ours(training: Training = training) -> float:
                shutil.rmtree(Path(runs) / "training", ignore_errors=True)
                with patch("lf.train.Log", Watched):
                    train(training)
                return Watched.seconds

            compare(
                f"{case}: {config.preset}, batch {config.batch}, {config.steps} steps",
                {"baseline": straightforward, "lf": ours},
                config,
                items=config.batch * config.steps,
                needed=config.steps * needed(training),
            )
            if config.profile:
                Watched.profiler = torch.profiler.profile()
                ours()
                show(f"{case}: where the steps of lf go", spent(Watched.profiler, config.steps))
                Watched.profiler = None
