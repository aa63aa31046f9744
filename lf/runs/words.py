"""How words that a user types mean a run: by its title or labels, compared as whole words, and numbers by value."""

from collections.abc import Iterable
from fractions import Fraction


def meant(words: str, texts: Iterable[str]) -> bool:
    """Whether every part of ``words`` (separated by commas) stands in one of ``texts``.

    Words and values are compared as a whole, and numbers by value: ``alpha 1/4`` is ``alpha 0.25``, but not alpha 16.
    """
    split = [_words(text) for text in texts]
    return all(any(_contains(text, _words(part)) for text in split) for part in words.split(","))


def grouped(words: Iterable[str]) -> list[str]:
    """Words of a command line; a number belongs to the word before it: ``alpha``, ``4`` is ``alpha 4``."""
    found: list[str] = []
    for word in words:
        if found and isinstance(_number(word), float):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def _words(text: str) -> list[str | float]:
    return [_number(word) for word in text.replace("=", " ").replace(":", " ").split()]


def _number(word: str) -> str | float:
    """``1/4`` and ``0.25`` as 0.25, to as many digits as a title has; another word as it is."""
    try:
        return float(f"{float(Fraction(word) if '/' in word else word):.6g}")
    except (ValueError, ZeroDivisionError, OverflowError):
        return word


def _contains(text: list[str | float], part: list[str | float]) -> bool:
    return any(text[i : i + len(part)] == part for i in range(len(text) - len(part) + 1))
