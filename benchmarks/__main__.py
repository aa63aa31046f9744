"""`python -m benchmarks <train|sample|evaluate|data|sweep> [key=value …]`: times variants in turn; see `--help`."""

import importlib
import sys

from lf.door import door
from lf.errors import UserError, nearest

COMMANDS = ("train", "sample", "evaluate", "data", "sweep")


def main(argv: list[str]) -> None:
    command = argv[0] if argv else "--help"
    if command in ("-h", "--help"):
        print(__doc__)
        sys.exit(0)
    if command not in COMMANDS:
        raise UserError(f"{command}: no such benchmark; {nearest(command, COMMANDS)}")
    importlib.import_module(f"benchmarks.{command}").main(argv[1:])


if __name__ == "__main__":
    door(main)
