"""`python -m benchmarks evaluate [key=value …]`: scoring given images, from memory and through PNG files.

    python -m benchmarks evaluate n=60 rounds=1
    python -m benchmarks evaluate n=200 resolution=64

It computes Fréchet distance, KID, precision, recall and the Inception Score in InceptionV3's features; the reference's
features are computed before. The weights are random by default, which does not change the time; weights=FILE uses the
published file. On a GPU: n=10000.
"""

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch_fidelity
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3 as inceptionv3

from benchmarks.core import Bench, compare, config_of, counted
from lf.data import shapes
from lf.metrics import INCEPTION, Extractor, Reference, protocol, scores


class Evaluate(Bench):
    """The keys of the command line."""

    n: int = Field(200, ge=20, description="number of images, and of images in the reference")
    resolution: int = Field(256, description="height and width of the images (of lf.data.shapes), in pixels")
    weights: str = Field("", description="file of InceptionV3's weights")


def random_inception(file: Path) -> Path:
    """Writes random weights of InceptionV3 that keep the variance, in the format of the published file."""
    net_type = inceptionv3.FeatureExtractorInceptionV3
    nothing: Any = lambda *_, **__: {}  # noqa: E731
    with (
        patch.object(inceptionv3, "load_state_dict_from_url", nothing),
        patch.object(net_type, "load_state_dict", nothing),
    ):
        net = net_type(INCEPTION, ["2048"])
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    torch.save(net.state_dict(), file)
    return file


def by_files(images: Tensor, folder: Path, weights: Path, subset: int, cuda: bool) -> dict[str, float]:
    """Scores through files: one PNG per image, then torch-fidelity on the folder, with cached ``folder/real``."""
    write(images, folder / "made")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # caused by torch-fidelity itself
        return torch_fidelity.calculate_metrics(
            input1=str(folder / "made"), input2=str(folder / "real"), feature_extractor=INCEPTION,
            feature_extractor_weights_path=str(weights), isc=True, fid=True, kid=True, prc=True,
            kid_subset_size=subset, cuda=cuda, save_cpu_ram=not cuda, verbose=False,
            cache=True, cache_root=str(folder / "cache"), input2_cache_name="real",
        )  # fmt: skip


def write(images: Tensor, folder: Path) -> None:
    """Writes each image as a PNG file, named by its number."""
    folder.mkdir(exist_ok=True)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{number:05}.png")


def main(argv: list[str]) -> None:
    config = config_of(argv, Evaluate, __doc__)
    device = config.runtime.torch_device
    real, made = (replace(shapes.make(range(s, s + config.n), config.resolution), digest=str(s)) for s in (0, 10**6))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = Path(config.weights) if config.weights else random_inception(folder / "inception.pth")
        space = Extractor(INCEPTION, weights, device)
        reference = Reference.of(real, space, folder)
        subset = protocol(space, reference, config.n)["kid"]["subset_size"]
        write(real.images, folder / "real")
        drawn = made.images.to(device)
        said: dict[str, dict[str, Any]] = {"png": {}, "lf": {}}

        def through_files() -> None:
            found = by_files(drawn.cpu(), folder, weights, subset, device.type == "cuda")
            said["png"]["fid"] = found["frechet_inception_distance"]

        def from_memory() -> None:
            said["lf"]["fid"] = scores(space, space.features(drawn), reference)["fid"]

        compare(
            f"evaluation of {config.n} images, {config.resolution} px",
            {"png": through_files, "lf": from_memory, "features alone": lambda: space.features(drawn)},
            config,
            items=config.n,
            needed=config.n * counted(lambda: space.features(drawn[:1])),
            said=said,
        )
