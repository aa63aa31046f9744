"""Guidance: extrapolates from a weaker velocity to the conditional one, per stream and per time interval."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lf.core.errors import UserError, nearest
from lf.core.parsing import optional

EDGE = 1e-6
"""Times closer than this count as equal, so that no rounding decides whether a step on an edge is guided."""


class Guidance(BaseModel):
    """Guided velocity ``v_u + s_i (v_c - v_u)`` of every stream i, with one scale per stream, as in LF.

    ``v_u`` is a velocity at the null label. With ``cfg`` it is that of the same network (arXiv 2207.12598), with
    ``autoguidance`` that of a weaker network, the guide (arXiv 2406.02507). ``cfg_then_autoguidance`` uses the first
    while a latent moves and the second after that (LF Table 11); LF's public code, from a time of the latent on:
    ``switch=0.999``. Where all scales are 1, no second pass is run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["none", "cfg", "autoguidance", "cfg_then_autoguidance"] = Field(
        "none", description="what a velocity is moved away from: that without a label, or that of a weaker network"
    )
    scale: dict[str, float] = Field({}, description="s_i by stream name; default 1")
    interval: dict[str, tuple[float, float]] = Field({}, description="(lo, hi) of the stream's own time, by name")
    guide: str = Field("", description="autoguidance: the weaker network's training run, id or folder")
    switch: float | None = optional(
        None, gt=0, le=1, description="cfg_then_autoguidance: times of the latents from which the guide is used"
    )

    @model_validator(mode="after")
    def _meant(self) -> "Guidance":
        if self.kind == "none" and (self.scale or self.interval or self.guide):
            raise ValueError("guidance.kind=none: takes no scale, interval or guide; set guidance.kind=cfg")
        if self.switch is not None and self.kind != "cfg_then_autoguidance":
            raise ValueError(f"guidance.switch={self.switch:g}: needs guidance.kind=cfg_then_autoguidance")
        if bool(self.guide) and "autoguidance" not in self.kind:
            raise ValueError(f"guidance.guide={self.guide}: guidance.kind={self.kind} takes no guide")
        for name, (lo, hi) in self.interval.items():
            if not 0 <= lo < hi <= 1:
                raise ValueError(f"guidance.interval.{name}=({lo}, {hi}): needs 0 <= lo < hi <= 1")
        return self

    def check(self, streams: Sequence[str]) -> None:
        """Raises `UserError` if it names a stream that the model does not have, or if the guide is missing."""
        for name in (*self.scale, *self.interval):
            if name not in streams:
                raise UserError(f"guidance: unknown stream '{name}'; {nearest(name, streams)}")
        if "autoguidance" in self.kind and not self.guide:
            raise UserError(f"guidance.kind={self.kind}: needs guidance.guide, a weaker network's run")

    def scales(self, streams: Sequence[str], t: Sequence[float]) -> list[float]:
        """Each stream's scale at its time; 1 outside its interval: ``lo < t < hi``, or ``t < hi`` if ``lo = 0``.

        A step on an edge, within `EDGE`, is outside.
        """
        scales = []
        for name, now in zip(streams, t, strict=True):
            lo, hi = self.interval.get(name, (0.0, 1.0))
            inside = now < hi - EDGE and (lo == 0 or now > lo + EDGE)
            scales.append(self.scale.get(name, 1.0) if inside else 1.0)
        return scales

    def by_guide(self, latents: Sequence[float], move: bool) -> bool:
        """Whether the weaker velocity is the guide's, and not the same network's.

        Args:
            latents: times of the latents.
            move: whether some latent moves.
        """
        if self.kind != "cfg_then_autoguidance":
            return self.kind == "autoguidance"
        return not move if self.switch is None else all(t > self.switch - EDGE for t in latents)
