"""`python -m lf.evaluate run=ID [key=value …]`: samples images from a trained network and scores them.

    python -m lf.evaluate run=ID path=shifted path.alpha=16
    python -m lf.evaluate run=ID guidance.kind=cfg guidance.scale.pixels=1.5

It prints the scores as a row. Rerun, the same command prints the stored row. Under ``torchrun`` the processes share the
images.
"""

import json
import sys
import time
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from lf import data
from lf.config import DEFAULTS, DataName, Evaluation, Sampling, ScoringConfig, Source, preset
from lf.config.cli import config_over_preset
from lf.core import preemption
from lf.core.cli import asks_help, run_command
from lf.core.distributed import World, join
from lf.core.errors import UserError, nearest
from lf.core.parsing import Strict, merge
from lf.core.runtime import Runtime
from lf.core.stages import stage
from lf.data import shards
from lf.metrics import JUDGE, Extractor, Judge, Reference, Space, joined, protocol, scores, sources
from lf.metrics.reconstruction import reconstruction
from lf.model.denoiser import LatentForcing
from lf.runs import EvaluationRun, TrainingRun, evaluation_run, find_training
from lf.storage.atomic import replace_tensors
from lf.storage.cache import made_once

KEPT_IMAGES = 64  # images saved with the row
SMALL = 64  # pixels; images of up to this side are scored by a judge
JUDGED_BYTES = 2**31  # most bytes of images for a judge
S = TypeVar("S", bound=Sampling)


def evaluate(trained: TrainingRun, config: Evaluation) -> dict[str, Any]:
    """Scores a trained network and returns the row; a finished evaluation is not repeated.

    Raises:
        UserError: the training is not finished, or something that the evaluation needs is missing.
    """
    run = evaluation_run(trained, config)
    trained.check_finished()
    world = join(trained.training.runtime.torch_device)
    with run.held() if world.rank == 0 else nullcontext():
        row = world.share(run.row)
        return row or world.share(_evaluate(trained, config, run, world))


def _evaluate(trained: TrainingRun, config: Evaluation, run: EvaluationRun, world: World) -> dict[str, Any]:
    training, runtime = trained.training, trained.training.runtime
    began = time.monotonic()
    runtime.apply()
    if config.needs_data and training.data:
        trained.check_data()
    spaces = [space_of(name, training, world.device) for name in config.features]
    references = [reference_of(space, config, training) for space in spaces]
    model = network_of(trained, config.weights)
    _check_classes(trained, config, model.classes)
    _, codec = model.output_stream(run.path)
    if codec:
        trained.check_data()
    guide = guide_of(config, runtime)

    if config.n < world.size:
        raise UserError(f"n={config.n}: fewer images than processes, {world.size}")
    mine = range(config.n * world.rank // world.size, config.n * (world.rank + 1) // world.size)
    parts: list[list[dict[str, Tensor]]] = [[] for _ in spaces]
    shown, sampling, done = list[Tensor](), 0.0, 0
    mark = time.monotonic()
    with stage("samples", len(mine), "image") as bar:
        for drawn in model.samples(mine, config, guide=guide, batch=runtime.batch, path=run.path):
            images = data.to_uint8(drawn)  # they stay on the device, where torch-fidelity's extractors run
            if world.device.type == "cuda":
                torch.cuda.synchronize(world.device)  # so that the measured time is that of sampling
            sampling += time.monotonic() - mark
            for space, part in zip(spaces, parts, strict=True):
                part.append(space.features(images))
                space.check(part[-1]["features"], f"run={trained.id}", mine[done:])
            done += len(images)
            bar.update(len(images))
            shown += [images.cpu()] if sum(len(some) for some in shown) < KEPT_IMAGES else []
            if preemption.asked() and world.rank == 0:
                raise preemption.Stopped(preemption.asked())
            mark = time.monotonic()
    gathered = [{k: torch.cat(world.gather(v)) for k, v in joined(part).items()} for part in parts]
    if world.rank:
        return {}  # rank 0 has the row

    labels, found = model.labels(range(config.n)), dict[str, Any]()
    for space, reference, features in zip(spaces, references, gathered, strict=True):
        found |= scores(space, features, reference)
        if codec:
            found |= reconstruction(codec, training, space, reference, config.n)
        if isinstance(space, Judge):
            found |= space.reading(features["logits"], labels)
            found |= {f"real_{name}": value for name, value in real(space, training, config.n).items()}
            if given := model.given_streams(config):
                pictures = space.features(given.pictures(range(config.n), labels))
                found |= space.likeness(features["logits"], pictures["logits"])
    kept = {"images": torch.cat(shown)[:KEPT_IMAGES], "labels": labels[:KEPT_IMAGES].clone()}
    replace_tensors(run.folder / "samples.safetensors", kept)
    row = run.config | {
        "data": training.data,
        **({"data_digest": data.digest(training.data, training.resolution)} if config.needs_data else {}),
        "classes": model.classes,
        "labels": "balanced" if training.label_dropout < 1 else "none",
        "score": f"FD-{training.data.partition(':')[0]}" if isinstance(spaces[0], Judge) else spaces[0].column("fd"),
        "judging": {s.name: protocol(s, r, config.n) for s, r in zip(spaces, references, strict=True)},
        **found,
    }
    return run.finish(row | {"seconds": time.monotonic() - began, "seconds_sampling": sampling})


def _check_classes(trained: TrainingRun, config: Evaluation, classes: int) -> None:
    """Raises `UserError` if a converted network is compared with data of another number of classes."""
    training = trained.training
    if "data_digest" in trained.config or not config.needs_data or training.label_dropout == 1:
        return
    found = len(
        data.open(training.data, training.resolution, training.runtime.cache, training.runtime.limit_damaged).classes
    )
    if found != classes:
        raise UserError(
            f"run={trained.id}: its network has {classes} classes, but data={training.data} has {found}; give data= "
            "with the images of those classes, or a file of statistics, reference.NAME=FILE"
        )


@lru_cache(maxsize=2)
def network_of(trained: TrainingRun, weights: str) -> LatentForcing:
    """The network of a training, ready to sample from; the last two are cached (a network and its guide)."""
    runtime = trained.training.runtime
    model = LatentForcing.from_pretrained(trained.folder, weights).to(join(runtime.torch_device).device)
    model.config = trained.training  # with its runtime
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
        return _judge(source.data, source.resolution, source.runtime.cache, source.runtime.limit_damaged)
    if name not in sources():
        raise UserError(f"features={name}: unknown; {nearest(name, (JUDGE, *sources()))}")
    return _extractor(name, source.runtime.weights.get(name, ""), device)


_extractor = lru_cache(maxsize=2)(Extractor)


@lru_cache(maxsize=2)
def _judge(name: str, resolution: int, cache: Path, limit_damaged: int) -> Judge:
    reference, lessons = (data.load(name, resolution, split, cache, limit_damaged) for split in ("train", "judge"))
    return Judge(reference, lessons, cache)


def reference_of(space: Space, judging: ScoringConfig, source: Source) -> Reference:
    """The reference statistics of a feature space: the file given for it, else those of the training data.

    Raises:
        UserError: there is no file and the data has no statistics in this space, or the file does not fit.
    """
    if isinstance(space, Judge):
        return space.statistics
    if space.name in judging.reference:
        return Reference.load(judging.reference[space.name], space, source.resolution)
    if not source.data:
        raise UserError(
            f"features={space.name}: nothing to compare with; give reference.{space.name}=FILE "
            "(python -m lf.metrics.make_reference makes one), or leave it out of features"
        )
    runtime = source.runtime
    images = data.open(source.data, source.resolution, runtime.cache, runtime.limit_damaged)
    return Reference.of(images, space, runtime.cache, workers=runtime.workers, limit_damaged=runtime.limit_damaged)


def real(judge: Judge, source: Source, n: int) -> dict[str, float]:
    """The floor: scores of ``n`` held-out real images; of fewer, or of none, if the data set has fewer."""
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


def protocol_for(source: Source) -> dict[str, Any]:
    """Default evaluation settings for images of this size: those of preset ``shapes`` or ``imagenet256``."""
    return preset("shapes" if _judged(source) else "imagenet256")["evaluation"]


def _judged(source: Source) -> bool:
    """Whether images are small, and few enough for the memory, in which the judge of the toy data needs them."""
    kind, _, place = source.data.partition(":")
    if kind not in ("folder", "shards") or source.resolution > SMALL:
        return kind in data.WORDS
    try:
        n = len(shards.find(place, source.runtime.cache)[1]["label"]) if kind == "shards" else 0
    except UserError:  # they were moved, and may not be needed
        return False
    return n * 3 * source.resolution**2 <= JUDGED_BYTES


def _told(trained: TrainingRun, config: Evaluation, argv: list[str]) -> None:
    """Says how own images will be scored, unless the words do. Raises `UserError` if they are not there."""
    source = trained.training
    if ":" not in source.data or any(word.startswith(("features=", "preset=")) for word in argv):
        return
    if trained.row is None or evaluation_run(trained, config).row is not None:
        return
    if config.needs_data:
        trained.check_data()
    features = f"[{','.join(config.features)}]"
    sys.stderr.write(
        f"data={source.data}: its images of {source.resolution} px are scored with features={features} n={config.n} "
        f"steps={config.steps}; these words change it\n"
    )


def defaults_of(trained: TrainingRun) -> dict[str, Any]:
    """How images of a converted run are drawn unless words say otherwise; empty for a run of this project."""
    file = trained.folder / DEFAULTS
    values = preset(str(file))["evaluation"] if file.exists() else {}
    guide = values.get("guidance", {}).get("guide")
    if guide and (beside := trained.folder.parent / guide).is_dir():  # both may have moved
        values["guidance"]["guide"] = str(beside)
    return values


def fitted(asked: S, trained: TrainingRun, argv: list[str]) -> S:
    """The settings with a number of steps that the path can be divided into; one that was given is not changed."""
    steps = asked.fitted(trained.training).steps
    if steps == asked.steps or any(word.startswith("steps=") for word in argv):
        return asked
    sys.stderr.write(f"steps={asked.steps} of the preset does not divide the path; taken: {steps}\n")
    return asked.model_copy(update={"steps": steps})


def asked_run(argv: list[str], doc: str | None, model: type[BaseModel], base: dict[str, Any] | None) -> TrainingRun:
    """The training run that a command's ``run=`` names; ``--help`` without one shows the values of ``base``."""
    if asks_help(argv) and not any(word.startswith("run=") for word in argv):
        config_over_preset(argv, model, "evaluation", doc, base)
    words = [word for word in argv if word.startswith(("run=", "runs=", "data=", "runtime."))]
    asked = config_over_preset(words, Asked, "evaluation", doc, {})
    return find_training(asked.run, asked.runtime, asked.data)


class Asked(Strict):
    """The run to evaluate, where its data is, and the runtime."""

    run: str = Field(description="training run: id or its start, folder, or cell (python -m lf.runs)")
    data: DataName = Field("", description="where the training's images are now; by default where they were")
    runtime: Runtime = Runtime()


class Command(Evaluation, Asked):
    """The keys of the command line."""


def main(argv: list[str]) -> None:
    trained = asked_run(argv, __doc__, Command, None)
    base = merge(protocol_for(trained.training), defaults_of(trained))
    config = fitted(config_over_preset(argv, Command, "evaluation", __doc__, base), trained, argv)
    if join(config.runtime.torch_device).rank == 0:
        _told(trained, config, argv)
    row = evaluate(trained, config)
    if join(config.runtime.torch_device).rank == 0:
        print(json.dumps(row, indent=1))


if __name__ == "__main__":
    run_command(main)
