"""Guidance: how the conditional velocity is pushed away from a weaker one, per stream and per time interval."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lf.errors import UserError, nearest


class Guidance(BaseModel):
    """Guided velocity ``v_u + s_i (v_c - v_u)`` of every stream i (arXiv 2207.12598, with a scale a stream as in LF).

    With ``cfg`` v_u is the same network's velocity at the null label. Where all scales are 1 no second pass is run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["none", "cfg"] = "none"
    scale: dict[str, float] = Field({}, description="s_i by stream name; 1 where not named")
    interval: dict[str, tuple[float, float]] = Field({}, description="(lo, hi) of the stream's own time, by name")

    @model_validator(mode="after")
    def _meant(self) -> "Guidance":
        if self.kind == "none" and (self.scale or self.interval):
            raise ValueError("guidance.kind=none: takes no scale or interval; set guidance.kind=cfg")
        for name, (lo, hi) in self.interval.items():
            if not 0 <= lo < hi <= 1:
                raise ValueError(f"guidance.interval.{name}=({lo}, {hi}): needs 0 <= lo < hi <= 1")
        return self

    def check(self, streams: Sequence[str]) -> None:
        """Raises `UserError` if it names a stream that the model does not have."""
        for name in (*self.scale, *self.interval):
            if name not in streams:
                raise UserError(f"guidance: unknown stream '{name}'; {nearest(name, streams)}")

    def scales(self, streams: Sequence[str], t: Sequence[float]) -> list[float]:
        """Each stream's scale at its time, 1 outside its interval (in: ``t < hi`` and ``lo = 0`` or ``t > lo``)."""
        scales = []
        for name, now in zip(streams, t, strict=True):
            lo, hi = self.interval.get(name, (0.0, 1.0))
            scales.append(self.scale.get(name, 1.0) if now < hi and (lo == 0 or now > lo) else 1.0)
        return scales
