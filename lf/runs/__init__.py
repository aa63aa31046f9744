"""Run store: one folder per run, named by its identity; a finished identity is not rerun.

runs/training/<id>/{config.json, row.json, checkpoint.safetensors, tensorboard…}
runs/evaluation/<id>/{config.json, row.json, samples.safetensors}
runs/tokenizer/<id>/{config.json, row.json, reconstructions.png}
runs/cache/ (data, encoders, judges)   runs/sweeps/ (what each sweep launched last)
runs/lengths/ (by which a longer training finds a shorter one that it continues)
"""

from lf.runs.evaluated import EvaluationRun, evaluation_run, tokenizer_run
from lf.runs.lengths import continues, last_checkpoint, note_length, shorter
from lf.runs.run import Run, revision
from lf.runs.similar import Similar, most_similar, why_new
from lf.runs.trained import TrainingRun, find_training, training_folder, training_run

__all__ = [
    "EvaluationRun", "Run", "Similar", "TrainingRun", "continues", "evaluation_run", "find_training", "last_checkpoint",
    "most_similar", "note_length", "revision", "shorter", "tokenizer_run", "training_folder", "training_run", "why_new",
]  # fmt: skip
