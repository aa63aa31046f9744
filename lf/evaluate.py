"""`python -m lf.evaluate run=ID [path=shifted path.alpha=16] [key=value …]`: draws images and scores them.

The same command again prints the row that is there already.
"""

import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from lf import checkpoint, data
from lf.command import config_from, door
from lf.config import Evaluation, Runtime, Training
from lf.denoiser import Denoiser
from lf.errors import UserError
from lf.files import made_once, replace_tensors
from lf.metrics import Judge
from lf.runs import evaluation_run, find_training, training_run

SHOWN = 64  # images kept with the row


def evaluate(training: Training, config: Evaluation) -> dict[str, Any]:
    """Scores a finished training unless that is done already; returns the row."""
    run = evaluation_run(training, config)
    with run.held():
        if run.row:
            return run.row
        began = time.monotonic()
        training.runtime.apply()
        images, labels = denoiser(training, config.weights).images(range(config.n), config, training.runtime)
        sampled = time.monotonic()
        judge = judge_of(training)
        scores = judge.score(images, labels)
        replace_tensors(run.folder / "samples.safetensors", {"images": images[:SHOWN], "labels": labels[:SHOWN]})
        return run.finish(
            {
                **run.config,
                "score": f"FD-{training.data.partition(':')[0]}",
                "data": training.data,
                "reference": judge.reference.digest,
                "reference_n": len(judge.reference),
                "judge_digest": judge.digest,
                **scores,
                **{f"real_{name}": value for name, value in real(judge, training, config.n).items()},
                "seconds": time.monotonic() - began,
                "seconds_sampling": sampled - began,
            }
        )


@lru_cache(maxsize=1)
def denoiser(training: Training, weights: str) -> Denoiser:
    """The trained network of a finished (or begun) run, ready to draw images."""
    file = training_run(training).folder / "checkpoint.safetensors"
    if not file.exists():
        raise UserError(f"run={training_run(training).id}: not trained yet: {file} is missing")
    tensors, _ = checkpoint.read(file)
    state = checkpoint.part(tensors, weights)
    model = Denoiser(training, classes=state["label.weight"].shape[0] - 1)
    checkpoint.fill(model.network, state, file)
    model = model.to(training.runtime.torch_device).eval().requires_grad_(False)
    if training.runtime.compile:
        model.compile_blocks()
    return model


@lru_cache(maxsize=1)
def judge_of(training: Training) -> Judge:
    """The judge of a training's data, with its training images as the reference."""
    cache = Path(training.runtime.runs) / "cache"
    reference, lessons = (data.load(training.data, training.resolution, s, cache) for s in ("train", "judge"))
    return Judge(reference, lessons, cache)


def real(judge: Judge, training: Training, n: int) -> dict[str, float]:
    """The floor: the scores of ``n`` real images that no network has seen (fewer if there are not as many)."""
    cache = Path(training.runtime.runs) / "cache"
    test = data.load(training.data, training.resolution, "test", cache)
    scores = made_once(
        cache / f"real-{judge.digest}-{n}.safetensors",
        lambda: {
            k: torch.tensor(v, dtype=torch.float64) for k, v in judge.score(test.images[:n], test.labels[:n]).items()
        },
    )
    return {name: value.item() for name, value in scores.items()} | {"n": float(min(n, len(test)))}


class Command(Evaluation):
    """What the command line takes."""

    run: str = Field(description="training run: its id or its folder")
    runtime: Runtime = Runtime()


def main(argv: list[str]) -> None:
    config = config_from(argv, Command, "evaluation", __doc__)
    row = evaluate(find_training(config.run, config.runtime), config)
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    door(main)
