"""`python -m lf.encoders.whiten ENCODER DATA [key=value …]`: whitening statistics of an encoder over a data set.

    python -m lf.encoders.whiten dinov2 shards:/data/in256
    python -m lf.encoders.whiten mocov3 folder:PATH n=500 out=stats.safetensors

ENCODER is a name, such as dinov2 or timm:vit_small_patch16_224; its parameters are encoder.KEY=value. DATA is as in
lf.train data=DATA. A training uses the written file with stats=FILE among the encoder's parameters. Without out= it is
written to the cache, where a training on the same data finds it instead of computing it.
"""

from pathlib import Path

from pydantic import Field

from lf import data
from lf.core.cli import config_from, run_command
from lf.core.errors import UserError
from lf.core.parsing import Strict, overrides
from lf.core.runtime import Runtime
from lf.encoders import AnyEncoder
from lf.encoders.pretrained import Pretrained


class Command(Strict):
    """The keys of the command line."""

    encoder: AnyEncoder = Field(description="as latents in lf.train")
    data: str = Field(description="as in lf.train")
    resolution: int = Field(256, ge=8, description="height and width of the images, in pixels")
    patch: int = Field(16, ge=1, description="side of a pixel patch, as network.patch in lf.train")
    out: str = Field("", description="file to write, not overwritten; by default in the cache of the run store")
    batch: int = Field(64, ge=1, description="images at a time")
    n: int = Field(0, ge=0, description="number of images, evenly spread over the set; 0: all")
    runtime: Runtime = Runtime()


def whiten(config: Command) -> Path:
    """Writes the whitening statistics, unless they exist in the cache; returns their file.

    Raises:
        UserError: the encoder is not whitened by statistics, or keys of ``config`` contradict each other.
    """
    encoder, cache = config.encoder, config.runtime.cache
    if not isinstance(encoder, Pretrained):
        raise UserError(f"{encoder.name}: is not whitened by statistics of a data set")
    if config.resolution % config.patch:
        raise UserError(f"resolution={config.resolution}: must be a multiple of patch={config.patch}")
    if config.n and not config.out:
        raise UserError("out: must be given with n; statistics in the cache are of all images")
    if config.out and Path(config.out).suffix != ".safetensors":
        raise UserError(f"out={config.out}: must end in .safetensors")
    if config.out and Path(config.out).exists():
        raise UserError(f"out={config.out}: exists and is not overwritten")
    config.runtime.apply()
    device = config.runtime.torch_device
    images = data.open(config.data, config.resolution, cache)
    encode = encoder.unwhitened(config.resolution, config.patch)
    file = Path(config.out) if config.out else encoder.kept(images, config.patch, cache)
    if not file.exists():
        workers = config.runtime.workers
        encoder.measure(encode.to(device), images, config.patch, file, config.batch, config.n, workers)
    return file


def main(argv: list[str]) -> None:
    named = [f"encoder.name={argv[0]}", f"data={argv[1]}"] if len(argv) > 1 else []
    base = overrides(named) if not any("=" in word for word in argv[:2]) else {}
    print(whiten(config_from(argv, Command, "whitening", __doc__, base, positional=2)))


if __name__ == "__main__":
    run_command(main)
