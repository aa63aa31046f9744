"""The decoder of a latent, for networks that do not generate pixels."""

from pathlib import Path

from lf.config import Training
from lf.core.errors import UserError
from lf.encoders import Codec
from lf.storage.json_files import read_json


def decoder_of(config: Training, folder: Path | None) -> tuple[int, Codec]:
    """The index of the first latent stream that has a decoder, and the decoder.

    Args:
        config: the training.
        folder: the run's folder; trained decoders are in the cache of its run store.

    Raises:
        UserError: no latent has a decoder, or the decoder is not in the run store.
    """
    found = [(stream, encoder) for stream, encoder in enumerate(config.latents, 1) if encoder.has_decoder]
    if not found:
        raise UserError("path: it does not move the pixels, and no latent of this network has a decoder")
    stream, encoder = found[0]
    stored = (read_json(folder / "config.json") if folder else None) or {}
    if not folder or "data_digest" not in stored:
        raise UserError(
            f"{encoder.name}: its decoder is in the training's run store; load the run from its folder there"
        )
    cache = folder.absolute().parent.parent / "cache"
    return stream, encoder.codec(stored["data_digest"], config.network.patch, cache)
