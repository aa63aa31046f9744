"""`python -m analysis`: rewrites all tables and figures in results/ from the committed rows, and prints the findings.

    python -m analysis

``results/`` is that of the working folder. It reads no run store and trains nothing. With the same package versions,
the files are the same byte for byte.
"""

import matplotlib

from analysis import load, tables
from analysis.figures import draw, write
from analysis.findings import findings
from analysis.results import RESULTS
from lf.core.cli import Parser, run_command
from lf.core.errors import UserError


def main(argv: list[str]) -> None:
    Parser(__doc__).parse_args(argv)
    matplotlib.use("agg")
    files = sorted(RESULTS.glob("*/rows.jsonl"))
    if not files:
        raise UserError(f"{RESULTS.absolute()}: no rows; python -m analysis.export NAME puts those of a sweep there")
    for file in files:
        frame = load(file.parent.name, runs=None)
        written = [*tables.write(frame, file.parent), *write(draw(frame, None), file.parent)]
        seconds = frame.drop_duplicates("training_id").train_seconds.sum() + frame.seconds.sum()
        print(f"{file.parent.name}: {len(written)} files; its rows took {seconds / 60:.0f} min of a worker")
        print(*(f"- {line}" for line in findings(frame)), sep="\n")


if __name__ == "__main__":
    run_command(main)
