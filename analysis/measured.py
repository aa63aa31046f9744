"""Figures of what `analysis.measure` stored."""
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor


def figures(frame: pd.DataFrame, runs: Path | None) -> dict[str, Figure | None]:
    return {}


def film(frame: pd.DataFrame, runs: Path | None) -> list[tuple[str, Tensor]]:
    return []
