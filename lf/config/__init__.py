"""The typed configs of training, sampling and evaluation, their presets, and their command line."""

from lf.config.presets import preset
from lf.config.schema import (
    DEFAULTS,
    DataName,
    Evaluation,
    Sampling,
    ScoringConfig,
    Source,
    Training,
    identity,
    training_of,
)

__all__ = [
    "DEFAULTS", "DataName", "Evaluation", "Sampling", "ScoringConfig", "Source", "Training", "identity", "preset",
    "training_of",
]  # fmt: skip
