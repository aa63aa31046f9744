"""How a user is told what is wrong: one line."""

import difflib
from collections.abc import Iterable

MANY = 20  # names, beyond which a line is no place to list them


class UserError(Exception):
    """A mistake in what the user gave. Its text is one line: what, where, what is allowed."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """``allowed: a, b, c; did you mean 'b'?`` for a message about an unknown ``word``; of many names, the near ones."""
    allowed = sorted(allowed)
    close = difflib.get_close_matches(word, allowed, n=1)
    if close and len(allowed) > MANY:
        return f"did you mean '{close[0]}'? ({len(allowed)} are allowed; --help lists them)"
    return f"allowed: {', '.join(allowed)}" + (f"; did you mean '{close[0]}'?" if close else "")
