"""One way to tell a user what is wrong: one line, exit code 2."""

import difflib
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn


class UserError(Exception):
    """A mistake in what the user gave. Its text is one line: what, where, what is allowed."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """``allowed: a, b, c; did you mean 'b'?`` for a message about an unknown ``word``."""
    allowed = sorted(allowed)
    close = difflib.get_close_matches(word, allowed, n=1)
    return f"allowed: {', '.join(allowed)}" + (f"; did you mean '{close[0]}'?" if close else "")


def door(main: Callable[[list[str]], None]) -> NoReturn:
    """Runs a command's ``main(argv)``: a ``UserError`` becomes one line on stderr and exit code 2."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(_fail(" ".join(str(error).split())))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _fail(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return 2
