"""`dinov2`: DINOv2-B with registers (arXiv 2304.07193, 2309.16588), final tokens; RAE's and LF's latent."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from torch import nn

from lf.core.errors import UserError
from lf.encoders.pretrained import Backbone
from lf.encoders.vit import Transformers
from lf.encoders.whitening import Per


class DINOv2(Transformers):
    """Patches of 14 px, so 256 px images are resized to 224 px. ``(768, 16, 16)``.

    The final norm has no affine parameters, as in RAE. RAE's statistics are the file
    ``stats/dinov2/wReg_base/imagenet1k/stat.pt`` of the hub repository ``nyu-visionx/RAE-collections``.
    """

    name: Literal["dinov2"] = "dinov2"
    loss_weight: float = Field(0.333, gt=0, description="λ of its stream in the loss")
    per: Per = Field("element", description="whitening per channel, or per element (channel and position)")
    dim: int = Field(768, ge=1, description="width of the transformer")

    def published(self) -> str:
        return "facebook/dinov2-with-registers-base"

    def channels(self, patch: int) -> int:
        return self.dim

    def backbone(self, place: Path, grid: int) -> Backbone:
        model = self.from_folder(place)
        if model.config.model_type != "dinov2_with_registers":
            raise UserError(
                f"{self.name}.weights={place}: holds a {model.config.model_type}, not DINOv2 with registers"
            )
        model.layernorm = nn.LayerNorm(model.config.hidden_size, model.config.layer_norm_eps, elementwise_affine=False)
        return self.tokens_of(model)
