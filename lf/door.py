"""The door of every command: a user's mistake is one line and exit code 2. Imports nothing that takes long."""

import sys
from collections.abc import Callable
from typing import NoReturn

from lf import stop
from lf.errors import UserError


def door(main: Callable[[list[str]], None]) -> NoReturn:
    """Runs a command's ``main(argv)``: a `UserError` becomes one line on stderr and exit code 2."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        said = " ".join(str(error).split())
        sys.stderr.write(f"error: {said}\n")  # at once: other processes write there, too
        sys.exit(2)
    except stop.Stopped as stopped:
        print(f"stopped ({stopped}); the same command goes on from there", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
