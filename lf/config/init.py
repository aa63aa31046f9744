"""Warm start: the run whose weights a training begins with."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from lf.core.parsing import Strict

Weights = Annotated[str, Field(pattern=r"^(raw|ema\d*)$")]


class Init(Strict):
    """Another run, the trunk, and which of its weights a training begins with; without a name they are random."""

    name: str = Field("", description="run to begin from, as in init=RUN: id, folder or cell; none: random weights")
    weights: Weights = Field("ema", description="its weights: ema, ema2, … or raw")

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.name and self.weights != "ema":
            raise ValueError(f"weights={self.weights}: of which run? give init=RUN, too")
        return self

    def decay(self, decay: float, step: int) -> float:
        """The decay of an average at ``step``, counted from 0.

        Random weights: 0, then ``decay``; the average begins with the weights after the first step. Warm start: the
        average begins with the trunk's weights, and its decay rises as ``(1 + step) / (10 + step)``, so that the
        average of a short training does not lag.
        """
        if self.name:
            return min(decay, (1 + step) / (10 + step))
        return decay if step else 0.0
