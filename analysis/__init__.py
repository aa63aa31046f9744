"""What came out: rows of runs as tables, figures, findings and a report.

>>> import analysis
>>> frame = analysis.load("order_ablation")
"""

from analysis.results import load

__all__ = ["load"]
