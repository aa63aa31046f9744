"""The answer to a TAB: the words that can stand where the cursor is. Imports no torch, and little else.

The script of `sweeps.completion` runs it, with the table of words on stdin.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import argcomplete
from argcomplete.lexers import split_line

from lf.storage.names import cells

RUN, SWEEP, ROWS = "@run", "@sweep", "@rows"  # in a table: stand for what the run store holds
Table = Mapping[str, Mapping[str, Any]]


def answer(table: Table) -> None:
    """Answers the shell, which asks by environment variables, and exits."""
    parser = argparse.ArgumentParser(prefix_chars="\0", add_help=False)  # options are words, too
    words: Any = parser.add_argument("words", nargs="*")
    words.completer = lambda prefix, parsed_args, **_: _replacing(
        prefix, offered(parsed_args.words or [], prefix, table)
    )
    argcomplete.autocomplete(parser, validator=lambda *_: True)


def _replacing(word: str, offers: Iterator[str]) -> list[str]:
    """What bash puts for ``word``: for ``run="ord`` what comes after the quote, which argcomplete does not see to."""
    found = [offer for offer in offers if offer.startswith(word)]
    quote, *_ = split_line(line := os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])])
    if not quote or os.environ.get("_ARGCOMPLETE_SHELL") != "bash":
        return found
    return [offer[len(word) - len(line.rpartition(quote)[2]) :] for offer in found]


def offered(before: Sequence[str], word: str, table: Table) -> Iterator[str]:
    """What may stand for ``word``.

    Args:
        before: the words between the program (``python``, ``torchrun``) and ``word``.
        word: what is typed of it.
        table: by command: its ``options``, its ``words`` by place, its ``keys`` with their values, and ``of``, the
            names of the plugins that have a key (`sweeps.completion.vocabulary`).
    """
    if "-m" not in before:
        return
    if before[-1] == "-m":
        yield from table
        return
    module, *given = before[before.index("-m") + 1 :]
    if module not in table:
        return
    known, (key, equals, _) = table[module], word.partition("=")
    set_to = dict(typed.partition("=")[::2] for typed in given if "=" in typed)
    runs = Path(set_to.get("runs", set_to.get("runtime.runs", "runs"))).expanduser()
    if word.startswith("-"):
        yield from known["options"]
    elif equals:
        yield from (f"{key}={value}" for value in _there(known["keys"].get(key, ()), runs))
    else:
        place = sum("=" not in typed and not typed.startswith("-") for typed in given)
        yield from _there(known["words"][place] if place < len(known["words"]) else (), runs)
        names = [name for name in known["keys"] if name.startswith(word) and _fits(name, known["of"], set_to)]
        yield from _grouped([f"{name}=" for name in names], len(word))


def _fits(key: str, of: Mapping[str, Sequence[str]], set_to: Mapping[str, str]) -> bool:
    """Whether the plugin that was chosen before has this key: ``schedule.alpha`` after ``schedule=shifted``."""
    chosen = next((set_to[above] for above in _above(key) if above in set_to), None)
    return chosen is None or key not in of or chosen in of[key]


def _above(key: str) -> Iterator[str]:
    """The keys above a key: of ``path.shift.tiny`` ``path.shift`` and ``path``."""
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def _grouped(keys: Sequence[str], typed: int) -> Sequence[str]:
    """Keys up to their next dot after ``typed`` characters, as a shell shows folders; in full if they share it."""
    parts = dict.fromkeys(key[: key.find(".", typed) + 1] or key for key in keys)
    if len(parts) != 1 or [*parts] == [*keys]:
        return [*parts]
    return _grouped(keys, len([*parts][0]))


def _there(values: Sequence[str], runs: Path) -> Iterator[str]:
    """The values; of those that stand for what the store holds, that."""
    for value in values:
        yield from STORED[value](runs) if value in STORED else (value,)


def _trainings(runs: Path) -> Iterator[str]:
    """The identities of trainings, and their names in sweeps."""
    ids = sorted(file.parent.name for file in runs.glob("training/*/config.json") if "." not in file.parent.name)
    yield from ids
    named = cells(runs)
    yield from (title for name in ids for title in named.get(name, ()))


def _sweeps(runs: Path) -> Iterator[str]:
    yield from sorted(file.parent.name for file in runs.glob("sweeps/*/sweep.json"))


def _rows(runs: Path) -> Iterator[str]:
    """What has a table beside questions and sweeps: the folders of reports, and every training."""
    yield from sorted(file.parent.name for file in runs.glob("reports/*/sweep.json"))
    yield from (f"run-{name}" for name in _trainings(runs) if " " not in name)


STORED: dict[str, Callable[[Path], Iterator[str]]] = {RUN: _trainings, SWEEP: _sweeps, ROWS: _rows}


if __name__ == "__main__":
    answer(json.load(sys.stdin))
