"""Images, feature spaces and references for tests of scores."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lf.data import Images, shapes
from lf.metrics import Reference, Space


def images_of(indices: range) -> Images:
    return replace(shapes.make(indices, resolution=32), digest=str(indices))


def files_of(images: Tensor, folder: Path) -> str:
    folder.mkdir()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{number:05}.png")
    return str(folder)


@dataclass
class Given(Space):
    """The features are the first pixels of the image themselves."""

    width: int = 2  # type: ignore[misc]
    name = "given"
    weights = "0"
    measures = ("fd", "kid", "prc", "isc")

    def features(self, images: Tensor) -> dict[str, Tensor]:
        return {"features": images.flatten(1)[:, : self.width].float(), "logits": images.flatten(1).float()}


def reference_of(features: Tensor) -> Reference:
    return Reference(features.double().mean(0), features.double().T.cov(), len(features), features)


def given(features: Tensor, logits: Tensor | None = None) -> dict[str, Tensor]:
    return {"features": features, "logits": torch.zeros(len(features), 4) if logits is None else logits}
