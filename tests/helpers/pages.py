"""The README and docs/ as blocks, spans and commands.

Above a fenced block a page may say what is to be done with it:

- ``<!-- run -->``: it is run as it stands, in a folder of its own;
- ``<!-- run: small -->``: the same, with the settings of `SMALL` appended;
- ``<!-- file: NAME -->``: it is written to that file, and the commands of the page find it there;
- ``<!-- not run: REASON -->``: its lines that are no commands of this project are not run.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "results" / "README.md", ROOT / "benchmarks" / "README.md"]
SHELL, CHECKED = ("bash", "sh"), ("bash", "sh", "python", "toml", "yaml", "text")
COMMANDS = (
    "lf.train", "lf.train_tokenizer", "lf.sample", "lf.evaluate", "lf.convert", "lf.runs", "lf.data.prepare",
    "lf.encoders.cache", "lf.encoders.whiten", "lf.metrics.make_reference",
    "sweeps.launch", "sweeps.status", "sweeps.logs", "sweeps.cancel", "sweeps.retry", "sweeps.guidance",
    "sweeps.order",
    "analysis", "analysis.export", "analysis.tables", "analysis.figures", "analysis.findings", "analysis.probe",
    "analysis.report", "analysis.notebooks", "benchmarks",
)  # fmt: skip
RUN = "0123456789ab"  # the training that a block of Python reads: a real one
STAND_INS = {  # run → preset
    "ID": "lf_l_imagenet256",
    "RUN": "lf_l_imagenet256",
    "GUIDE": "lf_s_guide",
    "lf_s_guide": "lf_s_guide",
    "lf_l": "lf_l_200",
}
SMALL = {
    "lf.train": [
        "data=digits", "steps=3", "batch=8", "network.depth=1", "network.width=32", "network.heads=2",
        "runtime.compile=false", "runtime.threads=1",
    ]
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with the comments directly above it."""

    page: Path
    line: int
    language: str
    text: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def note(self, kind: str) -> str | None:
        """What a note of this kind says: ``not run: REASON`` → ``REASON``; None where there is none."""
        said = (note.partition(":") for note in self.notes)
        return next((text.strip() for name, _, text in said if name.strip() == kind), None)

    @property
    def lines(self) -> list[str]:
        """The commands of a shell block, each on one line, without comments."""
        whole = re.sub(r"\s*\\\n\s*", " ", self.text)
        return [line for line in whole.splitlines() if line.strip() and not line.startswith("#")]


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    notes, inside, begun = list[str](), list[str](), 0
    language: str | None = None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = re.fullmatch(r"```(\w*)", line)
        comment = re.fullmatch(r"<!-- (.+) -->", line)
        if language is None and fence:
            language, inside, begun = fence[1], [], number
        elif language is not None and line == "```":
            yield Block(page, begun, language, "\n".join(inside) + "\n", tuple(notes))
            language, notes = None, []
        elif language is not None:
            inside.append(line)
        else:
            notes = [*notes, comment[1]] if comment else []
    assert language is None, f"{page}:{begun}: a block is not closed"


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def own(line: str) -> list[str] | None:
    """Module and words of a command of this project; None for any other line."""
    words = shlex.split(line, comments=True)
    words = words[1:] if words[0] == "time" else words
    if words[0] not in ("python", "torchrun") or "-m" not in words:
        return None
    module, *rest = words[words.index("-m") + 1 :]
    return [module, *rest] if module.partition(".")[0] in ("lf", "sweeps", "analysis", "benchmarks") else None


def spans(page: Path) -> Iterator[str]:
    """What stands between backticks in the text of a page, outside of its blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text))


def commands() -> Iterator[Any]:
    """Every command of this project on the pages: page, module, words."""
    for block in BLOCKS:
        for line in block.lines if block.language in SHELL else []:
            if words := own(line):
                yield pytest.param(block.page, *words[:1], words[1:], id=f"{block} {line}")
    for page in PAGES:
        for span in dict.fromkeys(spans(page)):
            if span.startswith("python -m ") and "NAME" not in span and "OUT.npz" not in span and (words := own(span)):
                yield pytest.param(page, *words[:1], words[1:], id=f"{page.relative_to(ROOT)} {span}")
