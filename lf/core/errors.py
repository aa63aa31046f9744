"""User errors: one line each."""

import difflib
import errno
from collections.abc import Iterable, Sequence

MANY = 20  # above this many names, only the nearest is shown


class UserError(Exception):
    """A mistake in the user's input. Its text is one line: what is wrong, where, and what is allowed."""


class NotANumberError(UserError):
    """A loss is not a number: a training has diverged."""


STORAGE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR,
     errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}
)  # fmt: skip
"""Errors of the file system that only the user can end: no space, no permission, a file where a folder should be."""


def storage_fault(error: BaseException) -> str:
    """One line about a file that cannot be read or written; empty for any other error."""
    if not isinstance(error, OSError) or error.errno not in STORAGE:
        return ""
    said = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    return "; ".join([said, *getattr(error, "__notes__", [])])


def few(names: Sequence[str], most: int = 3, separator: str = ", ") -> str:
    """The first names of a list, for a message: ``a, b, c and 4 more``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return separator.join(names[:most]) + more


def nearest(word: str, allowed: Iterable[str]) -> str:
    """The end of a message about an unknown ``word``: ``allowed: a, b, c; did you mean 'b'?``.

    Above `MANY` names, only the nearest is shown.
    """
    allowed = sorted(allowed)
    close = difflib.get_close_matches(word, allowed, n=1)
    if close and len(allowed) > MANY:
        return f"did you mean '{close[0]}'? ({len(allowed)} are allowed; --help lists them)"
    return f"allowed: {', '.join(allowed)}" + (f"; did you mean '{close[0]}'?" if close else "")
