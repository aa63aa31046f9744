"""`mocov3`: MoCo-v3 ViT-B/16 (arXiv 2104.02057), final tokens."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from lf.core.errors import UserError
from lf.encoders.pretrained import Backbone, Pretrained
from lf.encoders.weights import fill, read

PREFIX = "module.base_encoder."


class MoCoV3(Pretrained):
    """Patches of 16 px, like the pixels'; the position table is resized to the grid. ``(768, 16, 16)`` at 256 px."""

    name: Literal["mocov3"] = "mocov3"
    dim: int = Field(768, ge=1, description="width of the transformer")
    heads: int = Field(12, ge=1, description="attention heads")

    def published(self) -> str:
        return "https://dl.fbaipublicfiles.com/moco-v3/vit-b-300ep/vit-b-300ep.pth.tar"

    def channels(self, patch: int) -> int:
        return self.dim

    def backbone(self, place: Path, grid: int) -> Backbone:
        from timm.models.vision_transformer import VisionTransformer  # imported here only: it takes seconds

        key = f"{self.name}.weights"
        state = read(key, place, "state_dict")
        # The projector is named head; the latent is its input.
        state = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
        state = {k: v for k, v in state.items() if not k.startswith("head.")}
        if not {"pos_embed", "patch_embed.proj.weight"} <= set(state):
            raise UserError(f"{key}={place}: not a MoCo-v3 checkpoint: no state_dict with {PREFIX}pos_embed")
        dim, _, cell, _ = state["patch_embed.proj.weight"].shape
        net = VisionTransformer(
            img_size=cell * int((state["pos_embed"].shape[1] - 1) ** 0.5),
            patch_size=cell,
            embed_dim=dim,
            depth=sum(k.endswith(".attn.qkv.weight") for k in state),
            num_heads=self.heads,
            num_classes=0,
            global_pool="",
            weight_init="skip",
        )
        fill(key, net, state, place)
        net.set_input_size(cell * grid)
        return Backbone(net, cell)
