"""`python -m analysis.figures NAME [runs=FOLDER]`: writes a sweep's figures as PNG and PDF.

    python -m analysis.figures order_ablation
    python -m analysis.figures order_ablation runs=results  # committed rows

The figures follow from the rows: numeric labels become axes, names become rows of dots, a tokenizer's reconstruction
scores are plotted against the scores of generation, and measurements of `analysis.probe` are drawn if they exist.
"""

import matplotlib

from analysis.figures import draw, write
from analysis.folders import source
from lf.core.cli import run_command


def main(argv: list[str]) -> None:
    matplotlib.use("agg")
    frame, folder, runs = source(argv, __doc__)
    print(*write(draw(frame, runs), folder), sep="\n")


if __name__ == "__main__":
    run_command(main)
