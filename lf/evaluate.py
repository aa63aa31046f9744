"""`python -m lf.evaluate run=ID [path=shifted path.alpha=16] [key=value …]`: draws images and scores them.

The same command again prints the row that is there already. Under `torchrun` the processes share the images.
"""

import json
import time
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from lf import data, stop
from lf.command import config_from
from lf.config import Evaluation, Judging, Runtime, Sampling, Source, Strict, preset
from lf.denoiser import LatentForcing
from lf.door import door
from lf.errors import UserError
from lf.files import made_once, replace_tensors
from lf.metrics import JUDGE, Extractor, Judge, Reference, Space, joined, protocol, scores
from lf.reconstruction import reconstruction
from lf.runs import Run, TrainingRun, evaluation_run, find_training
from lf.world import World, join

SHOWN = 64  # images kept with the row


def evaluate(trained: TrainingRun, config: Evaluation) -> dict[str, Any]:
    """Scores a finished training unless that is done already; returns the row."""
    run = evaluation_run(trained, config)
    if "data_digest" in trained.config and trained.row is None:  # a run of ours: what is there is not its end
        raise UserError(f"run={trained.id}: its training is not done; the command that began it goes on with it")
    world = join(trained.training.runtime.torch_device)
    with run.held() if world.rank == 0 else nullcontext():
        row = world.share(run.row)
        return row or world.share(_evaluate(trained, config, run, world))


def _evaluate(trained: TrainingRun, config: Evaluation, run: Run, world: World) -> dict[str, Any]:
    training, runtime = trained.training, trained.training.runtime
    began = time.monotonic()
    runtime.apply()
    spaces = [space_of(name, training, world.device) for name in config.features]
    references = [reference_of(space, config, training) for space in spaces]
    model = network_of(trained, config.weights)
    _, codec = model.shown_by(config.path_for(training))
    guide = guide_of(config, runtime)

    if config.n < world.size:
        raise UserError(f"n={config.n}: fewer images than processes, {world.size}")
    mine = range(config.n * world.rank // world.size, config.n * (world.rank + 1) // world.size)
    parts: list[list[dict[str, Tensor]]] = [[] for _ in spaces]
    shown, sampling = list[Tensor](), 0.0
    mark = time.monotonic()
    for drawn in model.samples(mine, config, guide=guide, batch=runtime.batch):
        images = data.to_uint8(drawn)  # they stay where they are: the extractors of torch-fidelity run there, too
        if world.device.type == "cuda":
            torch.cuda.synchronize(world.device)  # so that a second counts where it was spent
        sampling += time.monotonic() - mark
        for space, part in zip(spaces, parts, strict=True):
            part.append(space.features(images))
        shown += [images.cpu()] if sum(len(some) for some in shown) < SHOWN else []
        if stop.asked() and world.rank == 0:
            raise stop.Stopped(stop.asked())
        mark = time.monotonic()
    gathered = [{k: torch.cat(world.gather(v)) for k, v in joined(part).items()} for part in parts]
    if world.rank:
        return {}  # the first one has the row

    labels, found = model.labels(range(config.n)), dict[str, Any]()
    for space, reference, features in zip(spaces, references, gathered, strict=True):
        found |= scores(space, features, reference)
        if codec:
            found |= reconstruction(codec, training, space, reference, config.n)
        if isinstance(space, Judge):
            found |= space.reading(features["logits"], labels)
            found |= {f"real_{name}": value for name, value in real(space, training, config.n).items()}
    replace_tensors(
        run.folder / "samples.safetensors", {"images": torch.cat(shown)[:SHOWN], "labels": labels[:SHOWN].clone()}
    )
    row = run.config | {
        "data": training.data,
        "labels": "balanced" if training.label_dropout < 1 else "none",
        "score": f"FD-{training.data.partition(':')[0]}" if isinstance(spaces[0], Judge) else spaces[0].column("fd"),
        "judging": {s.name: protocol(s, r, config.n) for s, r in zip(spaces, references, strict=True)},
        **found,
    }
    return run.finish(row | {"seconds": time.monotonic() - began, "seconds_sampling": sampling})


@lru_cache(maxsize=2)
def network_of(trained: TrainingRun, weights: str) -> LatentForcing:
    """The network of a finished (or begun) training, ready to draw images; it and a guide are kept."""
    runtime = trained.training.runtime
    model = LatentForcing.from_pretrained(trained.folder, weights).to(join(runtime.torch_device).device)
    if runtime.compile:
        model.compile_blocks()
    return model


def guide_of(sampling: Sampling, runtime: Runtime) -> LatentForcing | None:
    """The weaker network that the guidance names, if any."""
    guide = sampling.guidance.guide
    return network_of(find_training(guide, runtime), "ema") if guide else None


def space_of(name: str, source: Source, device: torch.device) -> Space:
    """The feature space ``name``: the judge of the data, or an extractor of torch-fidelity."""
    if name == JUDGE:
        return _judge(source.data, source.resolution, source.runtime.cache)
    return _extractor(name, source.runtime.weights.get(name, ""), device)


_extractor = lru_cache(maxsize=2)(Extractor)


@lru_cache(maxsize=2)
def _judge(name: str, resolution: int, cache: Path) -> Judge:
    reference, lessons = (data.load(name, resolution, split, cache) for split in ("train", "judge"))
    return Judge(reference, lessons, cache)


def reference_of(space: Space, judging: Judging, source: Source) -> Reference:
    """What a space's features are compared with: the file that was given for it, else the training data."""
    if isinstance(space, Judge):
        return space.statistics
    if space.name in judging.reference:
        return Reference.load(judging.reference[space.name], space, source.resolution)
    if not source.data:
        raise UserError(
            f"features={space.name}: nothing to compare with; give reference.{space.name}=FILE "
            "(python -m lf.data.reference makes one), or leave it out of features"
        )
    runtime = source.runtime
    images = data.open(source.data, source.resolution, runtime.cache)
    return Reference.of(images, space, runtime.cache, workers=runtime.workers, limit_damaged=runtime.limit_damaged)


def real(judge: Judge, source: Source, n: int) -> dict[str, float]:
    """The floor: scores of ``n`` real images that no network has seen, fewer or none if there are not as many."""
    cache = source.runtime.cache
    test = data.load(source.data, source.resolution, "test", cache)
    if len(test) < 2:
        return {}
    found = made_once(
        cache / f"real-{judge.digest}-{judge.weights}-{n}.safetensors",
        lambda: {
            k: torch.tensor(v, dtype=torch.float64) for k, v in judge.score(test.images[:n], test.labels[:n]).items()
        },
    )
    return {name: value.item() for name, value in found.items()} | {"n": float(min(n, len(test)))}


def protocol_for(name: str) -> dict[str, Any]:
    """Defaults of an evaluation on the data ``name``: those of a preset of its kind."""
    small = name.partition(":")[0] in ("shapes", "digits", "folder")
    return preset("shapes" if small else "imagenet256")["evaluation"]


class Asked(Strict):
    """What is evaluated, and where."""

    run: str = Field(description="training run: its id or its folder")
    runtime: Runtime = Runtime()


class Command(Evaluation, Asked):
    """What the command line takes."""


def main(argv: list[str]) -> None:
    words = [word for word in argv if word.startswith(("run=", "runtime.", "-"))]
    asked = config_from(words, Asked, "evaluation", __doc__, {}, Command)
    trained = find_training(asked.run, asked.runtime)
    config = config_from(argv, Command, "evaluation", __doc__, protocol_for(trained.training.data))
    row = evaluate(trained, config)
    if join(config.runtime.torch_device).rank == 0:
        print(json.dumps(row, indent=1))


if __name__ == "__main__":
    door(main)
