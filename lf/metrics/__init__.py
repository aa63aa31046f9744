"""Scores of generated images, computed by torch-fidelity from memory: no image files between.

Three parts: a `Space` turns uint8 images into features, a `Reference` holds what they are measured against, and
`scores` turns the features of all images into numbers; `protocol` says how, and belongs in every row beside them::

    space = Extractor("inception-v3-compat", device="cuda")
    reference = Reference.load("jit_in256_stats.npz", space)
    parts = [space.features(images) for images in ...]      # chunk by chunk, on as many processes as there are
    features = joined(parts, indices)                       # the rows back in the order of the images
    row = {**scores(space, features, reference), "scored": {space.name: protocol(space, reference, len(indices))}}

The small data sets are scored in the features of a `Judge`, a network trained on the data set itself; that distance is
called ``FD-<data>`` and is never a FID. Two scores compare only if the whole protocol is the same: N, reference,
extractor and its weights, and how the images were resized and stored before they were seen. Beside it a row needs how
the labels were drawn: balanced ones are reported to score better than random ones.
"""

from lf.metrics.judge import JUDGE, RECIPE, Judge, JudgeNet, judge_from
from lf.metrics.measures import joined, protocol, scores
from lf.metrics.reference import KEPT, Reference
from lf.metrics.space import CLIP, INCEPTION, Extractor, Space

__all__ = [
    "CLIP", "INCEPTION", "JUDGE", "KEPT", "RECIPE", "Extractor", "Judge", "JudgeNet", "Reference", "Space",
    "joined", "judge_from", "protocol", "scores",
]  # fmt: skip
