"""`python -m lf.encoders.whiten ENCODER DATA [key=value …]`: whitening statistics of an encoder over a data set.

ENCODER is a name, such as dinov2 or timm:vit_small_patch16_224; its parameters are encoder.KEY=value. DATA is what
lf.train takes as data. The file that is written is what encoder.stats=FILE asks for; without out= it is the one that a
training on the same data looks for, which would measure it itself.
"""

from pathlib import Path

from pydantic import Field

from lf import data
from lf.command import config_from
from lf.config import Runtime, Strict
from lf.door import door
from lf.encoders import AnyEncoder
from lf.encoders.pretrained import Pretrained
from lf.errors import UserError


class Command(Strict):
    """What the command line takes."""

    encoder: AnyEncoder = Field(description="as latents in lf.train")
    data: str = Field(description="as in lf.train")
    resolution: int = Field(256, ge=8, description="of the images, in pixels")
    patch: int = Field(16, ge=1, description="side of a pixel patch, as network.patch in lf.train")
    out: str = Field("", description="file to write, not written over; by default under runtime.runs")
    batch: int = Field(64, ge=1, description="images at a time")
    n: int = Field(0, ge=0, description="only so many images, spread over the set; 0: all")
    runtime: Runtime = Runtime()


def whiten(config: Command) -> Path:
    """Measures what ``config`` asks for, unless that is done already; returns the file."""
    encoder, cache = config.encoder, config.runtime.cache
    if not isinstance(encoder, Pretrained):
        raise UserError(f"{encoder.name}: is not whitened by statistics of a data set")
    if config.resolution % config.patch:
        raise UserError(f"resolution={config.resolution}: must be a multiple of patch={config.patch}")
    if config.n and not config.out:
        raise UserError("out: give a file where n is given, for a training looks for the statistics of all images")
    if config.out and Path(config.out).suffix != ".safetensors":
        raise UserError(f"out={config.out}: must end in .safetensors")
    if config.out and Path(config.out).exists():
        raise UserError(f"out={config.out}: exists already and is not written over")
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
    words = list(argv)
    if not {"-h", "--help"} & set(argv):
        if len(argv) < 2 or any("=" in word for word in argv[:2]):
            raise UserError("name an encoder and a data set: python -m lf.encoders.whiten ENCODER DATA [key=value …]")
        words[:2] = [f"encoder.name={argv[0]}", f"data={argv[1]}"]
    print(whiten(config_from(words, Command, "whitening", __doc__, base={})))


if __name__ == "__main__":
    door(main)
