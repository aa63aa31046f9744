"""How pretrained encoders are named and configured."""

from pathlib import Path

import pytest
import transformers
from toy import training
from vits import DATA, PATCH, small

from lf import encoders
from lf.core.errors import UserError
from lf.encoders import data2vec2, mocov3, weights


def test_the_width_of_a_stream_is_known_without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "_from_url", None)
    monkeypatch.setattr(weights, "_from_hub", None)
    for module in (mocov3, data2vec2):  # they took it from `weights` when they were imported
        monkeypatch.setattr(module, "read", None)
    transformers.ViTConfig(hidden_size=24, patch_size=8).save_pretrained(tmp_path)
    latents = f"[mocov3, data2vec2, dinov2, timm:vit_small_patch14_dinov2, {{name: hf, model: {tmp_path}}}]"
    streams = training(f"latents={latents}").streams
    assert [s.channels for s in streams] == [3, 768, 1024, 768, 384, 24]
    assert [s.loss_weight for s in streams] == [1, 1, 0.25, 0.333, 1, 1]


def test_a_colon_is_short_for_the_model() -> None:
    short, long = (
        training("latents=timm:vit_small_patch16_224"),
        training("latents={name: timm, model: vit_small_patch16_224}"),
    )
    assert short == long
    assert short.latents[0].model_dump()["model"] == "vit_small_patch16_224"
    assert encoders.create("hf:some/vit", per="element") == encoders.create("hf", model="some/vit", per="element")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "timm:vit_smal_patch16_224",
            "timm.model=vit_smal_patch16_224: unknown to timm; did you mean 'vit_small_patch16",
        ),
        ("timm", "timm.model: must be given"),
        ("timm:resnet18", "timm.model=resnet18: not a vision transformer"),
        ("hf", "hf.model: must be given"),
        ("tiny:big", "tiny.model: unknown key"),
    ],
)
def test_a_model_that_is_none_is_one_line(name: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        encoders.create(name).channels(PATCH)
    assert str(refused.value).startswith(said) and "\n" not in str(refused.value)


def test_a_number_of_heads_that_does_not_divide_the_width_is_one_line(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="^mocov3.weights=.*: cannot be used on a grid of 4 × 4"):
        small("mocov3", place, heads=5).load(DATA, PATCH, tmp_path)


def test_two_models_are_refused() -> None:
    with pytest.raises(UserError, match="timm.model=b: 'timm:a' names another model"):
        encoders.create("timm:a", model="b")
