"""Feature spaces: maps from images to the features that scores are computed from."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path

import torch
from torch import Tensor

from lf.core.errors import UserError, nearest
from lf.storage.atomic import sha256
from lf.storage.pickles import unpickle

INCEPTION = "inception-v3-compat"  # torch-fidelity's port of the TensorFlow network of the FID
CLIP = "clip-vit-b-32"


@cache
def sources() -> dict[str, tuple[str, str]]:
    """Extractor → URL of its weights, and their file name in torch.hub's cache.

    torch-fidelity's DINOv2 is left out: Latent Forcing generates DINOv2 features, so it would score features that the
    model itself generates.
    """
    # imported here only: it takes a second
    from torch_fidelity.feature_extractor_clip import MODEL_METADATA, MODEL_URLS
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    clips = {name: (url, f"{name}-{MODEL_METADATA[name]['hash']}.pt") for name, url in MODEL_URLS.items()}
    return {INCEPTION: (URL_INCEPTION_V3, URL_INCEPTION_V3.rpartition("/")[2])} | clips


class Space(ABC):
    """A named map from images to features.

    Attributes:
        name: name of the extractor.
        weights: hash of its weights: equal name and weights, equal features.
        measures: scores in this space: ``fd``, ``kid``, ``prc`` (precision and recall), ``isc`` (Inception Score).
    """

    name: str
    weights: str
    measures: tuple[str, ...]

    @abstractmethod
    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Features of uint8 images ``(N, 3, H, W)`` on any device.

        Returns:
            On the CPU, float32: ``features`` ``(N, width)`` and, if the space has them, ``logits`` ``(N, K)``. A row
            depends only on its own image (up to rounding).
        """

    @cached_property
    def width(self) -> int:
        """Length of a feature vector."""
        return self.features(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))["features"].shape[1]

    def check(self, features: Tensor, source: str, numbers: Sequence[int] | Tensor) -> None:
        """Raises `UserError` if features ``(N, width)`` are not finite; it names the image, one of ``numbers``."""
        if not features.isfinite().all():
            bad = int(numbers[int((~features.isfinite().all(1)).nonzero()[0, 0])])
            raise UserError(f"{source}: the features of image {bad} in {self.name} are not finite")

    def column(self, score: str) -> str:
        """The name of a score in a run's row."""
        return f"{score}_{self.name.replace('-', '_')}"


class Extractor(Space):
    """An extractor of torch-fidelity, with its resizing, in float32 (no TF32, no autocast).

    Args:
        name: ``inception-v3-compat`` or a CLIP such as ``clip-vit-b-32``.
        weights: file of its weights; by default the file in torch.hub's cache, where torch-fidelity stores it.
        device: where it runs.
        batch: images at a time.

    Raises:
        UserError: unknown name, or weights that are missing or of another network. Nothing is downloaded: the processes
            of a cluster's job may have no access to the internet.
    """

    def __init__(self, name: str, weights: str | Path = "", device: torch.device | str = "cpu", batch: int = 64):
        from torch_fidelity.utils import create_feature_extractor

        file = weights_file(name, weights)
        self.name, self.device, self.batch = name, torch.device(device), batch
        self.measures = ("fd", "kid", "prc", "isc") if name == INCEPTION else ("fd", "kid", "prc")
        self.layers = {"features": "2048", "logits": "logits_unbiased"} if name == INCEPTION else {"features": "clip"}
        self.weights = sha256(file)[:16]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # caused by torch-fidelity itself
                if name == INCEPTION:
                    unpickle(file)  # torch-fidelity would unpickle anything
                self.net = create_feature_extractor(
                    name, [*self.layers.values()], cuda=False, feature_extractor_weights_path=str(file), verbose=False
                ).to(self.device)
        except Exception as error:  # the file can fail torch in any way
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"{file}: no weights of {name}: {reason}") from None

    def features(self, images: Tensor) -> dict[str, Tensor]:
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False), exact:
            parts = [[f.cpu() for f in self.net(part.to(self.device))] for part in images.split(self.batch)]
        return {name: torch.cat(found) for name, found in zip(self.layers, zip(*parts, strict=True), strict=True)}

    def column(self, score: str) -> str:
        if self.name == INCEPTION:
            return "fid" if score == "fd" else score
        return super().column(score)


def weights_file(name: str, given: str | Path = "") -> Path:
    """The file of an extractor's weights: ``given``, or the one in torch.hub's cache.

    Raises:
        UserError: unknown name or missing file; the message has the URL and the path.
    """
    if name not in sources():
        raise UserError(f"features={name}: unknown; {nearest(name, sources())}")
    url, kept = sources()[name]
    file = Path(given) if given else Path(torch.hub.get_dir()) / "checkpoints" / kept
    if not file.is_file():
        raise UserError(
            f"features={name}: its weights {file} are missing; download them (curl -L --create-dirs -o {file} {url}) "
            f"or give their file: runtime.weights.{name}=FILE"
        )
    return file
