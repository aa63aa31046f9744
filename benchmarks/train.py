"""`python -m benchmarks train [key=value …]`: step times of real trainings, without warm-up steps.

    python -m benchmarks train cases=jit steps=30 rounds=1
    python -m benchmarks train data=digits batch=32

The cases are JiT, Latent Forcing with one head, and with experts. On a GPU: preset=lf_l_imagenet256 data=shards:PATH
batch=… dtype=bfloat16 cases=experts; to train on cached latents, run `python -m lf.encoders.cache` first.
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
from lf.config import Training, preset
from lf.config.schema import DType, Names
from lf.core.errors import UserError, nearest
from lf.core.parsing import merge, parse
from lf.network import Network
from lf.train import train
from lf.training.flops import forward_flops
from lf.training.logger import Logger

SKIPPED = 10  # warm-up steps, in which it may compile
MOST_OPERATIONS = 16  # operations listed of a profile
CASES: dict[str, dict[str, Any]] = {
    "jit": {"schedule": {"name": "pixel_only"}, "latents": [], "network": {"expert_width": 0}},
    "lf": {"schedule": {"name": "cascaded"}, "network": {"expert_width": 0}},
    "experts": {"schedule": {"name": "cascaded"}},
}


class Train(Bench):
    """The keys of the command line."""

    cases: Names = Field(tuple(CASES), description="kinds of network")
    preset: str = "shapes"
    data: str = Field("shapes", description="see lf.data")
    latent: str | dict[str, Any] = Field("tiny", description="encoder of the latent stream")
    expert_width: int = Field(256, description="width of the output experts in the case experts")
    batch: int = Field(64, ge=1, description="images per step")
    steps: int = Field(100, ge=1, description="timed steps of a training, after the warm-up steps")
    dtype: DType = "bfloat16"
    profile: bool = Field(False, description="also print a profile of the steps of lf")


def needed(config: Training) -> float:
    """FLOPs of a step: forward and backward pass of all images, each with only the heads that its loss uses."""
    with torch.device("meta"):
        network = Network(config.network, config.streams, 1000)
    weight = config.schedule.sample(10_000, generator=torch.Generator().manual_seed(0)).weight
    k = weight.shape[1]
    whole = forward_flops(network)
    heads = [whole - forward_flops(network, [j != i for j in range(k)]) for i in range(k)]
    shares = (weight > 0).double().mean(0).tolist()
    return 3 * config.batch * (whole - sum(head * (1 - share) for head, share in zip(heads, shares, strict=True)))


class Watched(Logger):
    """A training's log that also times (and profiles, if set) the steps after the warm-up steps."""

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
    """The operations with the largest self time, on the GPU if there is one."""
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
        for name, micros in taken.most_common(MOST_OPERATIONS)
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
                with patch("lf.train.Logger", Watched):
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
