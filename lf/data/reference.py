"""`python -m lf.data.reference DATA OUT.npz [key=value …]`: the statistics of a data set, to measure scores against.

``python -m lf.data.reference folder:/data/imagenet/train imagenet256.npz resolution=256`` reads every training image
once. The file holds ``mu`` and ``sigma`` as the published ones do, ``n``, the features of some images (without which
there is no KID, precision or recall), and in ``meta`` the data's digest, the extractor and the hash of its weights.
"""

from pydantic import Field

from lf import data
from lf.command import config_from
from lf.config import Runtime, Strict, overrides, parse
from lf.door import door
from lf.errors import UserError
from lf.metrics import INCEPTION, KEPT, Extractor, Reference


class Command(Strict):
    """What the command line takes after DATA and OUT.npz."""

    resolution: int = Field(256, ge=1, description="of the images, in pixels")
    features: str = Field(INCEPTION, description=f"extractor: {INCEPTION} or a CLIP such as clip-vit-b-32")
    weights: str = Field("", description="file of its weights; by default runtime.weights, or torch-fidelity's place")
    n: int | None = Field(None, ge=2, description="a random choice of so many images; all of them by default")
    keep_features: int = Field(KEPT, ge=0, description="images whose features are kept")
    runtime: Runtime = Runtime()


def main(argv: list[str]) -> None:
    if {"-h", "--help"} & set(argv):
        config_from(argv, Command, "reference", __doc__)
    name, out, *words = [*argv, "", ""][: max(len(argv), 2)]
    if not out.endswith(".npz"):
        raise UserError("usage: python -m lf.data.reference DATA OUT.npz [key=value …]; --help lists the keys")
    config = parse(Command, overrides(words), where="reference")
    config.runtime.apply()
    weights = config.weights or config.runtime.weights.get(config.features, "")
    space = Extractor(config.features, weights, config.runtime.torch_device)
    dataset = data.open(name, config.resolution, config.runtime.cache)
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
    door(main)
