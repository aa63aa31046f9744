"""Run store: one folder per run, named by its identity; a finished identity is not rerun.

runs/training/<id>/{config.json, row.json, checkpoint.safetensors, tensorboard…}
runs/evaluation/<id>/{config.json, row.json, samples.safetensors}
runs/tokenizer/<id>/{config.json, row.json, reconstructions.png}
runs/cache/ (data, encoders, judges)   runs/sweeps/ (what each sweep launched last)
"""

from lf.runs.evaluated import EvaluationRun, evaluation_run, tokenizer_run
from lf.runs.run import Run, revision
from lf.runs.similar import Similar, most_similar, why_new
from lf.runs.trained import TrainingRun, find_training, training_folder, training_run

__all__ = [
    "EvaluationRun", "Run", "Similar", "TrainingRun", "evaluation_run", "find_training", "most_similar", "revision",
    "tokenizer_run", "training_folder", "training_run", "why_new",
]  # fmt: skip
