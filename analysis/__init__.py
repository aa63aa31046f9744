"""Results: rows of runs as tables, figures, findings and a report.

>>> import analysis
>>> frame = analysis.load("order_ablation")
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load"]


def load(sweep: str, runs: Path | None = Path("runs")) -> "pd.DataFrame":
    """`analysis.results.load`, imported at the first call, so that importing `analysis` is fast."""
    from analysis import results

    return results.load(sweep, runs)
