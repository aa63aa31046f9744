"""The help text of every command: 80 columns, an example, and examples that are understood."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import COMMANDS, ROOT, own
from parsers import PARSERS, command


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_a_help_text_are_understood(
    name: str, at: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command(name).main(["--help"])
    text = re.sub(r"\s*\\\n\s*", " ", capsys.readouterr().out)
    at(ROOT / "README.md")
    for line in re.findall(r"^    ((?:python|torchrun) .+)$", text, re.M):
        module, *words = own(line) or [""]
        assert module in PARSERS, line
        PARSERS[module](words)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_text_fits_80_columns_and_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command(name).main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert not stop.value.code
    assert not [line for line in lines if len(line) > 80]
    assert [line for line in lines if line.startswith("    python -m ")]
