"""`data2vec2`: data2vec 2.0 ViT-L/16 (arXiv 2212.07525), ImageNet without labels, tokens of a middle block."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from timm.models.vision_transformer import Attention, Mlp, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from lf.core.errors import UserError
from lf.encoders.pretrained import Backbone, Pretrained
from lf.encoders.weights import fill, read

RENAMED = {
    "extra_tokens": "cls_token",
    "local_encoder.proj.weight": "patch_embed.proj.weight",
    "local_encoder.proj.bias": "patch_embed.proj.bias",
    "fixed_positional_encoder.positions": "pos_embed",
    "context_encoder.norm.weight": "norm_pre.weight",
    "context_encoder.norm.bias": "norm_pre.bias",
}
"""fairseq's names below ``modality_encoders.IMAGE.`` → timm's; the names in blocks are the same."""


class Data2Vec2(Pretrained):
    """Patches of 16 px, like the pixels'; the position table is resized to the grid. ``(1024, 16, 16)`` at 256 px."""

    name: Literal["data2vec2"] = "data2vec2"
    loss_weight: float = Field(0.25, gt=0, description="λ of its stream in the loss")
    clamp: float | None = Field(5.0, gt=0, description="bound of the whitened latents")
    dim: int = Field(1024, ge=1, description="width of the transformer")
    heads: int = Field(16, ge=1, description="attention heads")
    block: int = Field(12, ge=0, description="block whose output is the latent, counted from 0")

    def published(self) -> str:
        return "https://dl.fbaipublicfiles.com/fairseq/data2vec2/large_imagenet.pt"

    def channels(self, patch: int) -> int:
        return self.dim

    def backbone(self, place: Path, grid: int) -> Backbone:
        key = f"{self.name}.weights"
        found = read(key, place, "model")
        state: dict[str, Any] = {new: found.get(f"modality_encoders.IMAGE.{old}") for old, new in RENAMED.items()}
        if None in state.values():
            raise UserError(
                f"{key}={place}: not a data2vec 2.0 image checkpoint: no model with modality_encoders.IMAGE"
            )
        used = tuple(f"blocks.{i}." for i in range(self.block + 1))
        state |= {k: v for k, v in found.items() if k.startswith(used)}

        table = state["pos_embed"]
        side = int(table.shape[1] ** 0.5)
        table = F.interpolate(table.float().mT.unflatten(-1, (side, side)), (grid, grid), mode="bicubic")
        state["pos_embed"] = table.flatten(2).mT
        dim, _, cell, _ = state["patch_embed.proj.weight"].shape
        net = VisionTransformer(
            img_size=cell * grid,
            patch_size=cell,
            embed_dim=dim,
            depth=self.block + 1,
            num_heads=self.heads,
            num_classes=0,
            global_pool="",
            no_embed_class=True,
            final_norm=False,
            block_fn=_PostNorm,
            weight_init="skip",
        )
        net.norm_pre = nn.LayerNorm(dim, eps=1e-6)
        fill(key, net, state, place)
        return Backbone(net, cell)


class _PostNorm(nn.Module):
    """``x = norm1(x + attn(x))``, then ``x = norm2(x + mlp(x))``."""

    def __init__(self, dim: int, num_heads: int, **unused: Any):
        super().__init__()
        self.attn, self.norm1 = Attention(dim, num_heads, qkv_bias=True), nn.LayerNorm(dim, eps=1e-6)
        self.mlp, self.norm2 = Mlp(dim, 4 * dim), nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attn(x))
        return self.norm2(x + self.mlp(x))
