"""User errors: one line each."""

import difflib
from collections.abc import Iterable

MANY = 20  # above this many names, only the nearest is shown


class UserError(Exception):
    """A mistake in the user's input. Its text is one line: what is wrong, where, and what is allowed."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """The end of a message about an unknown ``word``: ``allowed: a, b, c; did you mean 'b'?``.

    Above `MANY` names, only the nearest is shown.
    """
    allowed = sorted(allowed)
    close = difflib.get_close_matches(word, allowed, n=1)
    if close and len(allowed) > MANY:
        return f"did you mean '{close[0]}'? ({len(allowed)} are allowed; --help lists them)"
    return f"allowed: {', '.join(allowed)}" + (f"; did you mean '{close[0]}'?" if close else "")
