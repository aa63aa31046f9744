"""The JiT transformer over a list of streams. JiT, JiT+REPA and Latent Forcing are configurations of one class."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from lf.core.errors import nearest
from lf.diffusion.streams import Stream
from lf.network.blocks import Block, Branch, Head, rope_table
from lf.network.embed import PatchEmbed, TimeEmbed, sincos_positions, unpatchify

# JiT's sizes (arXiv 2511.13720); LM is LF's: with experts it has as many parameters as L.
SIZES: dict[str, dict[str, int]] = {
    "S":  {"depth": 12, "width":  384, "heads":  6, "bottleneck": 128, "class_token_block":  4},
    "B":  {"depth": 12, "width":  768, "heads": 12, "bottleneck": 128, "class_token_block":  4},
    "LM": {"depth": 20, "width": 1024, "heads": 16, "bottleneck": 128, "class_token_block":  8},
    "L":  {"depth": 24, "width": 1024, "heads": 16, "bottleneck": 128, "class_token_block":  8},
    "H":  {"depth": 32, "width": 1280, "heads": 16, "bottleneck": 256, "class_token_block": 10},
}  # fmt: skip


class NetworkConfig(BaseModel):
    """Size and parts of the network (JiT, arXiv 2511.13720; LF, arXiv 2602.11401).

    ``size=B`` sets the fields of `SIZES`; each of them can still be set separately.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    depth: int = Field(12, ge=1, description="transformer blocks")
    width: int = Field(768, ge=8, description="channels of a token")
    heads: int = Field(12, ge=1, description="attention heads")
    bottleneck: int = Field(128, ge=1, description="channels of the bottleneck in the patch embedding")
    patch: int = Field(16, ge=1, description="side of a pixel patch")
    class_tokens: int = Field(32, ge=0, description="class tokens before the patch tokens (in-context)")
    class_token_block: int = Field(4, ge=0, description="block before which the class tokens are prepended")
    expert_width: int = Field(0, ge=0, description="width of an output expert per stream; 0: one shared head")
    expert_depth: int = Field(2, ge=1, description="blocks of an output expert")
    repa_block: int | None = Field(None, ge=0, description="block whose input patch tokens are aligned")
    repa_width: int = Field(768, ge=1, description="channels of the encoder that is aligned to")

    @model_validator(mode="before")
    @classmethod
    def _sized(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "size" not in values:
            return values
        if values["size"] not in SIZES:
            raise ValueError(f"size={values['size']}: unknown; {nearest(str(values['size']), SIZES)}")
        return {**SIZES[values["size"]], **{key: value for key, value in values.items() if key != "size"}}

    @model_validator(mode="after")
    def _fits(self) -> "NetworkConfig":
        head = self.width // self.heads
        if head == 0 or head % 4 or self.width % self.heads or self.expert_width % head:
            raise ValueError(
                f"width={self.width}, heads={self.heads}, expert_width={self.expert_width}: "
                "width / heads must be a multiple of 4 and divide expert_width"
            )
        if self.class_tokens and self.class_token_block >= self.depth:
            raise ValueError(f"class_token_block={self.class_token_block}: must be below depth={self.depth}")
        if self.repa_block is not None and self.repa_block >= self.depth:
            raise ValueError(f"repa_block={self.repa_block}: must be below depth={self.depth}")
        return self


class Prediction(NamedTuple):
    """Estimates of the clean streams (None for those not requested), and the REPA tokens ``(B, tokens, C)``."""

    x: list[Tensor | None]
    repa: Tensor | None


class Network(nn.Module):
    """Predicts the clean streams from all noised streams, all times and the label.

    Args:
        config: size and parts.
        streams: the streams; all have the same token grid.
        classes: number of classes; label ``classes`` is the null label.
    """

    def __init__(self, config: NetworkConfig, streams: Sequence[Stream], classes: int):
        super().__init__()
        self.config, self.streams = config, tuple(streams)
        width, heads, grid = config.width, config.heads, streams[0].grid
        head_width = width // heads
        self.embed = nn.ModuleList(PatchEmbed(s, config.bottleneck, width) for s in streams)
        self.time = nn.ModuleList(TimeEmbed(width) for _ in streams)
        self.label = nn.Embedding(classes + 1, width)
        self.class_position = nn.Parameter(torch.empty(config.class_tokens, width)) if config.class_tokens else None
        self.register_buffer("position", sincos_positions(grid, width), persistent=False)
        self.blocks = nn.ModuleList(Block(width, heads, width) for _ in range(config.depth))
        values = [s.patch**2 * s.channels for s in streams]
        if config.expert_width:
            self.branches = nn.ModuleList(
                Branch(width, config.expert_width, head_width, config.expert_depth, n) for n in values
            )
        else:
            self.head = Head(width, sum(values), width)
        if config.repa_block is not None:
            self.repa = nn.Sequential(
                nn.Linear(width, 2048), nn.SiLU(), nn.Linear(2048, 2048), nn.SiLU(), nn.Linear(2048, config.repa_width)
            )
        for name, prefix in (("bare", 0), ("full", config.class_tokens)):
            cos, sin = rope_table(grid, head_width, prefix)
            self.register_buffer(f"cos_{name}", cos, persistent=False)
            self.register_buffer(f"sin_{name}", sin, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialises as in JiT: Xavier-uniform weights, zero biases; N(0, 0.02) labels, times; zero adaLN, outputs."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for weight in (self.label.weight, self.class_position, *(p for p in self.time.parameters() if p.dim() > 1)):
            if weight is not None:
                nn.init.normal_(weight, std=0.02)
        zero: list[nn.Parameter] = []
        for module in self.modules():
            if isinstance(module, Block | Head):
                zero += module.adaLN_modulation.parameters()
            if isinstance(module, Head):
                zero += module.linear.parameters()
        for weight in zero:
            nn.init.zeros_(weight)

    def forward(
        self,
        z: Sequence[Tensor],
        t: Tensor,
        y: Tensor,
        wanted: Sequence[bool] | None = None,
        rows: Sequence[Tensor] | None = None,
    ) -> Prediction:
        """Forward pass.

        Args:
            z: noised streams, each ``(B, C, H, W)``, or already embedded by `embed`, ``(B, tokens, width)``.
            t: times ``(B, streams)`` in [0, 1].
            y: labels ``(B,)``; the number of classes means "no label".
            wanted: which streams to predict; all by default. The experts of the others are not run.
            rows: with experts, the rows of the batch to predict for each stream, each ``(n,)``; all by default.
        """
        label = self.label(y)
        c = label + sum(embed(t[:, i]) for i, embed in enumerate(self.time))
        tokens = [a if a.dim() == 3 else embed(a) for embed, a in zip(self.embed, z, strict=True)]
        x: Tensor = sum(tokens) + self.position  # type: ignore[operator,assignment]
        cos, sin, repa = self.cos_bare, self.sin_bare, None
        prefix = 0
        for i, block in enumerate(self.blocks):
            if i == self.config.repa_block:
                repa = self.repa(x[:, prefix:])
            if i == self.config.class_token_block and self.class_position is not None:
                prefix = self.config.class_tokens
                x = torch.cat([(label[:, None] + self.class_position).to(x.dtype), x], 1)
                cos, sin = self.cos_full, self.sin_full
            x = block(x, c, cos, sin)
        return Prediction(self._heads(x[:, prefix:], c, wanted or [True] * len(self.streams), rows), repa)

    def _heads(
        self, x: Tensor, c: Tensor, wanted: Sequence[bool], rows: Sequence[Tensor] | None
    ) -> list[Tensor | None]:
        if not self.config.expert_width:
            parts = self.head(x, c).split([s.patch**2 * s.channels for s in self.streams], -1)
            return [unpatchify(p, s) if w else None for p, s, w in zip(parts, self.streams, wanted, strict=True)]
        own = [(x, c)] * len(self.streams) if rows is None else [(x[some], c[some]) for some in rows]
        return [
            unpatchify(branch(*its, self.cos_bare, self.sin_bare), stream) if want else None
            for branch, its, stream, want in zip(self.branches, own, self.streams, wanted, strict=True)
        ]
