"""`python -m lf.metrics.make_reference DATA OUT.npz [key=value …]`: writes reference statistics of a data set.

    python -m lf.metrics.make_reference shards:/data/in256 in256.npz
    python -m lf.metrics.make_reference folder:PATH OUT.npz resolution=128

It reads every training image once. The file has ``mu`` and ``sigma``, as published files do, ``n``, the features of
some images (for KID, precision and recall), and in ``meta`` the data's digest, the extractor and the hash of its
weights.
"""

from pydantic import Field

from lf import data
from lf.core.cli import config_from, run_command
from lf.core.errors import UserError
from lf.core.parsing import Strict
from lf.core.runtime import Runtime
from lf.metrics import INCEPTION, KEPT_FEATURES, Extractor, Reference


class Command(Strict):
    """The keys of the command line."""

    resolution: int = Field(256, ge=1, description="height and width of the images, in pixels")
    features: str = Field(INCEPTION, description=f"extractor: {INCEPTION} or a CLIP such as clip-vit-b-32")
    weights: str = Field("", description="file of its weights; by default runtime.weights, or torch-fidelity's file")
    n: int | None = Field(None, ge=2, description="number of images, chosen at random; by default all")
    keep_features: int = Field(KEPT_FEATURES, ge=0, description="images whose features are saved")
    runtime: Runtime = Runtime()


def main(argv: list[str]) -> None:
    config = config_from(argv, Command, "reference", __doc__, positional=2)
    name, out = data.named(argv[0]), argv[1]
    if not out.endswith(".npz"):
        raise UserError(f"{out}: must end in .npz")
    config.runtime.apply()
    weights = config.weights or config.runtime.weights.get(config.features, "")
    space = Extractor(config.features, weights, config.runtime.torch_device)
    dataset = data.open(name, config.resolution, config.runtime.cache, config.runtime.limit_damaged)
    reference = Reference.of(
        dataset,
        space,
        config.runtime.cache,
        n=config.n,
        keep=config.keep_features,
        workers=config.runtime.workers,
        limit_damaged=config.runtime.limit_damaged,
    )
    meta = {"data": name, "data_digest": dataset.digest, "resolution": config.resolution}
    reference.save(out, {**meta, "extractor": space.name, "weights": space.weights})
    print(f"{out}: {reference.n} images, {len(reference.kept)} features kept, digest {reference.digest}")


if __name__ == "__main__":
    run_command(main)
