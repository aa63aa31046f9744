"""`cascaded`: one stream after the other, by default latents first (LF's best schedule, Table 8)."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from lf.core.errors import UserError, nearest
from lf.core.parsing import optional
from lf.schedules.base import Times
from lf.schedules.logit_normal import LogitNormals


def _groups(value: Any) -> Any:
    groups: list[Any] = [[stage] if isinstance(stage, str) else stage for stage in value] if _listed(value) else [None]
    if not all(_listed(group) and all(isinstance(name, str) for name in group) for group in groups):
        raise ValueError(f"order={value}: must be a list of streams, such as [tiny, pixels] or [[tiny, small], pixels]")
    return groups


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


class Cascaded(LogitNormals):
    """Each stream is denoised while the later ones are noise and the earlier ones clean.

    Args:
        order: the streams by name, such as ``[tiny, pixels]`` or ``[[tiny, small], pixels]``; streams of one group are
            denoised together, at equal times. By default the latents come in their order and the pixels last.
        beta: noise left on finished streams in training, ``t_l = 1 - beta U[0,1]`` (LF Tables 6, 7).
        early: share of pixel times drawn from U[0, 0.5], where the logit-normal has little mass (LF Table 5).
        latent_max: last time of the latents on the path, in (0, 1].
    """

    name: Literal["cascaded"] = "cascaded"
    streams: int = Field(2, ge=2)
    order: Annotated[tuple[tuple[str, ...], ...], BeforeValidator(_groups)] = optional(
        (), description="streams by name, first to last; a list in it is made together; latents first by default"
    )
    beta: float = Field(0.25, ge=0, le=1, description="noise left on finished streams in training")
    early: float = Field(0.1, ge=0, le=1, description="share of pixel times drawn from U[0, 0.5]")
    latent_max: float = Field(1.0, gt=0, le=1, description="last time of the latents on the path")

    BY_NAME: ClassVar[tuple[str, ...]] = (*LogitNormals.BY_NAME, "order")

    def bind(self) -> None:
        super().bind()
        if not self.order:
            return
        said = f"order={[list(group) if len(group) != 1 else group[0] for group in self.order]}"
        ordered = [name for group in self.order for name in group]
        for name in ordered:
            if name not in self.names:
                raise ValueError(f"{said}: no stream '{name}'; {nearest(name, self.names)}")
            if ordered.count(name) > 1:
                raise ValueError(f"{said}: has '{name}' twice")
        if missing := [name for name in self.names if name not in ordered]:
            raise ValueError(f"{said}: lacks {', '.join(missing)}")
        groups = tuple(tuple(sorted(group, key=self.names.index)) for group in self.order if group)
        pixels, *latents = self.names
        usual = tuple((name,) for name in (*latents, pixels))
        self._set(order=() if groups == usual else groups)

    @property
    def ranks(self) -> list[int]:
        """Each stream's stage, from 0."""
        if not self.order:
            return super().ranks
        stage = {name: rank for rank, group in enumerate(self.order) for name in group}
        return [stage[name] for name in self.known_names()]

    @property
    def stages(self) -> int:
        """How many times one stream, or one group, is denoised."""
        return max(self.ranks) + 1

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Times:
        stream, own = self.draw(n, generator)
        early = torch.rand(n, generator=generator) < self.early
        uniform = 0.5 * torch.rand(n, generator=generator)
        own = torch.where(early & (stream == 0), uniform, own)
        clean = 1 - self.beta * torch.rand(n, self.streams, generator=generator)
        rank = torch.tensor(self.ranks)
        now = rank[stream][:, None]
        t = torch.where(rank < now, clean, torch.zeros_like(clean))
        return Times(torch.where(rank == now, own[:, None], t), self.one_hot(stream))

    def curve(self, u: Tensor) -> Tensor:
        """``t_i = end_i clamp(k u - rank_i, 0, 1)`` for k stages."""
        return self._times(self.stages * u)

    def derivative(self, u: Tensor) -> Tensor:
        """``t_i' = k end_i`` while stream i moves, else 0."""
        own = self.stages * u[..., None] - u.new_tensor(self.ranks)
        return torch.where((own >= 0) & (own < 1), self.stages * own.new_tensor(self._ends()), 0.0)

    def steps_from(self, least: int) -> int:
        return least + -least % self.stages

    def path(self, steps: int) -> Tensor:
        """Equal steps, and the same number of them for every stage. ``steps`` must be a multiple of `stages`."""
        better = self.steps_from(max(steps, 1))
        if steps != better:
            raise UserError(
                f"steps={steps}: cascaded gives each of its {self.stages} stages equally many; "
                f"use a multiple of {self.stages}, such as {better}"
            )
        share = steps // self.stages
        return self._times(torch.arange(steps + 1, dtype=torch.float64) / share)  # exact at the ends of the stages

    def _times(self, phase: Tensor) -> Tensor:
        """Times at ``phase`` in [0, k]; its integer part is the number of finished stages."""
        own = (phase[..., None] - phase.new_tensor(self.ranks)).clamp(0, 1)
        return own * own.new_tensor(self._ends())

    def _ends(self) -> list[float]:
        return [1.0] + [self.latent_max] * (self.streams - 1)
