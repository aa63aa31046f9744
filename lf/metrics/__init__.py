"""Scores of generated images, computed by torch-fidelity from memory, without image files.

It has three parts: a `Space` turns uint8 images into features, a `Reference` holds the statistics of real images, and
`scores` computes the scores from both. `protocol` returns the settings, which belong in every row beside the scores::

    space = Extractor("inception-v3-compat", device="cuda")
    reference = Reference.load("jit_in256_stats.npz", space)
    parts = [space.features(images) for images in ...]      # chunk by chunk, on any number of processes
    features = joined(parts, indices)                       # rows in the order of the images
    row = {**scores(space, features, reference), "scored": {space.name: protocol(space, reference, len(indices))}}

Images of the toy data sets are scored in the features of a `Judge`, a network trained on the data set itself; this
distance is called ``FD-<data>`` and is not a FID. Two scores are comparable only if the whole protocol is the same: N,
reference, extractor and its weights, and how images were resized and stored before. A row also states how labels were
drawn, since balanced labels are reported to score better than random ones.
"""

from lf.metrics.judge import JUDGE, RECIPE, Judge, JudgeNet, judge_from
from lf.metrics.measures import joined, protocol, scores
from lf.metrics.reference import KEPT_FEATURES, Reference
from lf.metrics.space import CLIP, INCEPTION, Extractor, Space, sources

__all__ = [
    "CLIP", "INCEPTION", "JUDGE", "KEPT_FEATURES", "RECIPE", "Extractor", "Judge", "JudgeNet", "Reference",
    "Space", "joined", "judge_from", "protocol", "scores", "sources",
]  # fmt: skip
