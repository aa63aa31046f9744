"""The runs of evaluations and of tokenizers' scores."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from lf import data
from lf.config import Evaluation, ScoringConfig, Source, identity
from lf.encoders import Encoder
from lf.runs.identity import judged_by, stored
from lf.runs.run import Run
from lf.runs.trained import TrainingRun, find_training


@dataclass(frozen=True)
class EvaluationRun(Run):
    """An evaluation's folder. ``path`` holds the time vectors of sampling, ``(steps+1, streams)``."""

    path: Tensor = field(compare=False)


def evaluation_run(trained: TrainingRun, config: Evaluation) -> EvaluationRun:
    """The run of an evaluation, finished or not.

    Its identity: the training's identity, the path's time vectors, all other settings, and the references or the judge.
    """
    training = trained.training
    settings = config.model_dump(mode="json", include=set(Evaluation.model_fields) - {"path", "shift"})
    what = {"training": trained.id, **settings, **judged_by(config)}
    if config.guidance.guide:  # the same run, given as an id or as a folder
        guide = find_training(config.guidance.guide, training.runtime)
        what["guidance"] = {**what["guidance"], "guide": guide.id}
    if "data_digest" not in trained.config and config.needs_data and _may_differ(training.data, trained.config["data"]):
        what["data_digest"] = data.digest(training.data, training.resolution)
    if config.given_data:
        what["given_data"] = data.digest(config.given_data, training.resolution)
    path = config.path_for(training)
    name = identity(what, path.tolist())
    schedule = (config.path or training.schedule).over(training.stream_names)
    folder = Path(training.runtime.runs) / "evaluation" / name
    return EvaluationRun(folder, what | {"path": schedule.model_dump(mode="json"), "shift": config.shift}, path)


def _may_differ(given: str, converted_with: str) -> bool:
    """Whether the data of a converted network may be other images than its name says: at a path, or given later."""
    return ":" in given or given != converted_with


def tokenizer_run(encoder: Encoder, patch: int, source: Source, judging: ScoringConfig) -> Run:
    """The run of a tokenizer's scores. Its identity: its recipe, the data's digest, the references or the judge."""
    what = {
        "tokenizer": encoder.model_dump(mode="json", exclude={"loss_weight"}),
        "patch": patch,
        "data": source.data,
        "resolution": source.resolution,
        "n": judging.n,
        "features": list(judging.features),
        **judged_by(judging),
    }
    contents = {f"tokenizer.{key}": value for key, value in encoder.contents().items()}
    return Run(*stored(Path(source.runtime.runs) / "tokenizer", what, source, contents))
