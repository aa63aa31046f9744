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

from collections.abc import Sequence
from typing import Any, Protocol

from lf.data.tars import sha256
from lf.errors import UserError, nearest
from lf.metrics.judge import JUDGE, RECIPE, Judge, JudgeNet, judge_from
from lf.metrics.measures import joined, protocol, scores
from lf.metrics.reference import Reference, existing
from lf.metrics.space import CLIP, INCEPTION, SOURCES, Extractor, Space

NAMES = (JUDGE, *SOURCES)  # of the feature spaces


class Scored(Protocol):
    """What of an evaluation's config says how it is scored."""

    @property
    def features(self) -> Sequence[str]: ...

    @property
    def reference(self) -> str: ...


def identity(config: Scored) -> dict[str, Any]:
    """What of the scoring, beside the config itself, makes an evaluation what it is; no weights are needed for it.

    Raises:
        UserError: unknown feature space, or no such reference file.
    """
    for name in config.features:
        if name not in NAMES:
            raise UserError(f"features={name}: unknown; {nearest(name, NAMES)}")
    what: dict[str, Any] = {"judge": RECIPE} if JUDGE in config.features else {}
    if config.reference:
        what["reference"] = sha256(existing(config.reference))
    return what


__all__ = [
    "CLIP", "INCEPTION", "JUDGE", "RECIPE", "Extractor", "Judge", "JudgeNet", "Reference", "Space",
    "NAMES", "identity", "joined", "judge_from", "protocol", "scores",
]  # fmt: skip
