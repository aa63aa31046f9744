"""`python -m analysis`: every table and figure of results/ again, from the committed rows alone, and what they say."""

import matplotlib

from analysis import figures, load, tables
from analysis.findings import findings
from analysis.results import RESULTS
from lf.door import door
from lf.errors import UserError


def main(argv: list[str]) -> None:
    if argv:
        raise UserError("usage: python -m analysis")
    matplotlib.use("agg")
    for file in sorted(RESULTS.glob("*/rows.jsonl")):
        frame = load(file.parent.name, runs=None)
        written = [*tables.write(frame, file.parent), *figures.write(frame, file.parent, None)]
        seconds = frame.drop_duplicates("training_id").train_seconds.sum() + frame.seconds.sum()
        print(f"{file.parent.name}: {len(written)} files; its rows took {seconds / 60:.0f} min of a worker")
        print(*(f"- {line}" for line in findings(frame)), sep="\n")


if __name__ == "__main__":
    door(main)
