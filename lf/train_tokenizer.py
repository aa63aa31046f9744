"""`python -m lf.train_tokenizer [tokenizer.dim=8] [key=value …]`: trains and scores one tokenizer.

    python -m lf.train_tokenizer tokenizer.dim=8 tokenizer.align=tiny
    python -m lf.train_tokenizer tokenizer=vae tokenizer.weights=FOLDER

A training with ``latents=[{name: autoencoder, dim: 8}]`` on the same data uses the same tokenizer; it is trained once.
The row has ``psnr`` and, depending on the feature space, ``rfd`` or ``rfid``, both over held-out images.
``reconstructions.png`` in the run's folder shows images above their reconstructions.
"""

import json
import signal
import time
from typing import Any

import torch
from pydantic import Field

from lf import data, encoders
from lf.config import ScoringConfig, Source
from lf.config.cli import config_over_preset
from lf.core import preemption
from lf.core.cli import run_command
from lf.core.errors import UserError
from lf.core.parsing import overrides, parse
from lf.encoders import AnyEncoder, Codec
from lf.evaluate import protocol_for, reference_of, space_of
from lf.metrics import protocol
from lf.metrics.reconstruction import held_out, reconstructed, reconstruction
from lf.runs import Run, tokenizer_run

PICTURED = 16  # images in reconstructions.png


class Command(Source, ScoringConfig):
    """The keys of the command line."""

    tokenizer: AnyEncoder = Field(
        default_factory=lambda: encoders.create("autoencoder"), description="as latents in lf.train"
    )
    patch: int = Field(8, ge=1, description="side of a pixel patch, as network.patch in lf.train")


def train_tokenizer(config: Command) -> dict[str, Any]:
    """Trains and scores a tokenizer and returns its row; a finished run is not repeated.

    Raises:
        UserError: the encoder has no decoder, or the resolution is no multiple of the patch.
    """
    stream = config.tokenizer.stream(config.resolution, config.patch)
    if not config.tokenizer.has_decoder:
        raise UserError(f"tokenizer={config.tokenizer.name}: has no decoder")
    if config.resolution % config.patch:
        raise UserError(f"resolution={config.resolution}: must be a multiple of patch={config.patch}")
    run = tokenizer_run(config.tokenizer, config.patch, config, config)
    with run.held():
        return run.row or _scored(config, run, {"values": stream.channels * stream.size**2})


def _scored(config: Command, run: Run, row: dict[str, Any]) -> dict[str, Any]:
    runtime, began = config.runtime, time.monotonic()
    runtime.apply()
    device = runtime.torch_device
    spaces = [space_of(name, config, device) for name in config.features]
    references = [reference_of(space, config, config) for space in spaces]
    images = data.open(config.data, config.resolution, runtime.cache, runtime.limit_damaged)
    codec = config.tokenizer.load(images, config.patch, runtime.cache)
    assert isinstance(codec, Codec)
    codec.to(device)
    judging = {}
    for space, reference in zip(spaces, references, strict=True):
        row |= reconstruction(codec, config, space, reference, config.n)
        judging[space.name] = protocol(space, reference, int(row.get("reconstructed_n", 0)))
    held, _ = held_out(config)
    if shown := min(PICTURED, len(held)):
        before = held.read(range(shown)).images
        pairs = torch.cat([before, reconstructed(codec, before)]) / 255
        from torchvision.utils import save_image  # imported here only: it takes a second

        save_image(pairs, run.folder / "reconstructions.png", nrow=shown)
    return run.finish({**run.config, "judging": judging, **row, "seconds": time.monotonic() - began})


def main(argv: list[str]) -> None:
    said = [word for word in argv if word.startswith(("data=", "resolution=", "runs=", "runtime.runs="))]
    source = parse(Source, overrides(said))
    base = {key: value for key, value in protocol_for(source).items() if key in ScoringConfig.model_fields}
    base |= {"tokenizer": {"name": "autoencoder"}}
    config = config_over_preset(argv, Command, "training", __doc__, base)
    with preemption.on(signal.SIGINT, signal.SIGTERM):
        print(json.dumps(train_tokenizer(config), indent=1))


if __name__ == "__main__":
    run_command(main)
