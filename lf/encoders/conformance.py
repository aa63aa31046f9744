"""The contract of encoders, as a test class to inherit."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from lf import encoders
from lf.core.errors import UserError
from lf.data import Images, to_float
from lf.encoders import Codec, Encoder


class EncoderConformance:
    """Tests of one encoder: inherit it in a test file, set ``encoder`` and ``data``, and run pytest.

    Example:
        >>> from lf import encoders
        >>> from lf.data import shapes
        >>> from lf.encoders.conformance import EncoderConformance
        >>> class TestMine(EncoderConformance):
        ...     encoder = encoders.create("mine")
        ...     data = shapes.make(range(64), resolution=32)
        ...     patch = 8

    Attributes:
        encoder: the object under test, with parameters that make it cheap.
        data: images that it accepts, at least 8 of them; no test changes them.
        patch: side of a pixel patch; it divides the images' resolution.
    """

    encoder: Encoder
    data: Images
    patch: int

    @pytest.fixture
    def cache(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """One folder for all tests, so that the encoder is trained only once."""
        return tmp_path_factory.getbasetemp() / "encoders"

    def test_its_name_is_the_entry_point_that_finds_it(self) -> None:
        assert type(encoders.create(self.encoder.name)) is type(self.encoder)

    def test_it_cannot_be_changed(self) -> None:
        for field in type(self.encoder).model_fields:
            with pytest.raises(ValidationError):
                setattr(self.encoder, field, getattr(self.encoder, field))

    def test_it_equals_its_own_dump(self) -> None:
        assert type(self.encoder)(**self.encoder.model_dump()) == self.encoder
        assert type(self.encoder).model_validate_json(self.encoder.model_dump_json()) == self.encoder

    def test_a_latent_has_one_finite_vector_for_each_cell(self, cache: Path) -> None:
        images, stream = self.images(), self.encoder.stream(self.data.resolution, self.patch)
        latents = self.encoder.load(self.data, self.patch, cache)(images)
        assert self.patch % self.encoder.cell(self.patch) == 0
        assert stream.grid == self.data.resolution // self.patch  # one token per pixel patch
        assert latents.shape == (len(images), *stream.shape)
        assert latents.dtype == torch.float32 and latents.isfinite().all()

    def test_different_images_have_different_latents(self, cache: Path) -> None:
        latents = self.encoder.load(self.data, self.patch, cache)(self.images())
        assert len(latents.flatten(1).unique(dim=0)) == len(latents)

    def test_loading_it_again_gives_the_same_latents(self, cache: Path) -> None:
        first, again = (self.encoder.load(self.data, self.patch, cache)(self.images()) for _ in range(2))
        assert first.equal(again)

    def test_a_latent_does_not_depend_on_the_rest_of_the_batch(self, cache: Path) -> None:
        encode = self.encoder.load(self.data, self.patch, cache)
        alone = torch.cat([encode(image[None]) for image in self.images()])
        torch.testing.assert_close(encode(self.images()), alone, rtol=1e-4, atol=1e-5)

    def test_it_decodes_without_the_images_or_says_that_it_does_not(self, cache: Path) -> None:
        encode = self.encoder.load(self.data, self.patch, cache)
        assert isinstance(encode, Codec) == self.encoder.has_decoder
        if not self.encoder.has_decoder:
            with pytest.raises(UserError, match=self.encoder.name):
                self.encoder.codec(self.data.digest, self.patch, cache)
            return
        codec, latents = self.encoder.codec(self.data.digest, self.patch, cache), encode(self.images())
        assert codec(self.images()).equal(latents)
        images = codec.decode(latents)
        assert images.shape == self.images().shape and images.dtype == torch.float32
        assert images.min() >= -1 and images.max() <= 1 and not images.requires_grad
        assert codec.to("meta").decode(latents.to("meta")).is_meta

    def test_it_is_frozen_and_moves_as_a_whole(self, cache: Path) -> None:
        encode = self.encoder.load(self.data, self.patch, cache)
        assert not encode.training and not self.encoder.load(self.data, self.patch, cache)(self.images()).requires_grad
        assert encode.to("meta")(self.images().to("meta")).is_meta  # fails if a tensor stays on the CPU

    def images(self) -> Tensor:
        return to_float(self.data.images[:8])
