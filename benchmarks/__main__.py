"""`python -m benchmarks <train|sample|evaluate|data|sweep> [key=value …]`: times variants alternately.

    python -m benchmarks train rounds=1
    python -m benchmarks sweep rounds=2

Each benchmark's ``--help`` lists its keys. Rows are appended to ``results/benchmarks``; benchmarks/README.md shows
results.
"""

import importlib
import sys

from lf.core.cli import run_command, wrapped
from lf.core.errors import UserError, nearest

COMMANDS = ("train", "sample", "evaluate", "data", "sweep")


def main(argv: list[str]) -> None:
    command = argv[0] if argv else "--help"
    if command in ("-h", "--help"):
        print(wrapped(__doc__ or ""))
        sys.exit(0)
    if command not in COMMANDS:
        raise UserError(f"{command}: no such benchmark; {nearest(command, COMMANDS)}")
    importlib.import_module(f"benchmarks.{command}").main(argv[1:])


if __name__ == "__main__":
    run_command(main)
