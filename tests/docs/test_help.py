"""The help text of every command: 80 columns, an example, and examples that are understood."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import COMMANDS, ROOT, own
from parsers import PARSERS, command

from lf.core.errors import UserError


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


def shown(name: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints for ``--help`` among its words."""
    with pytest.raises(SystemExit) as stop:
        command(name).main([*words, "--help"])
    assert not stop.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_text_fits_80_columns_and_shows_two_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(name, [], capsys).splitlines()
    assert lines[0].startswith("`python -m ")
    assert not [line for line in lines if len(line) > 80]
    examples = [line for line in lines if re.match(r"    (python|torchrun) .*-m ", line)]
    assert len(examples) >= (1 if name == "analysis" else 2)  # it takes no words
    keys = [line.split()[0] for line in lines if re.match(r"  [a-z_.]+ ", line)]
    assert len(keys) == len({*keys})
    first = next((n for n, line in enumerate(lines) if line.startswith("Keys, values")), len(lines))
    begun = [n for n, line in enumerate(lines) if n > first and re.match(r"  \S", line)]
    assert all(len(lines[n]) > 39 or lines[n + 1].startswith(" " * 39) for n in begun)  # each has a meaning


@pytest.mark.parametrize(
    "name", [name for name in COMMANDS if name not in ("analysis", "analysis.notebooks", "benchmarks", "lf.convert")]
)
def test_a_help_text_says_how_the_run_store_is_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(r"runs=FOLDER|^  runs ", shown(name, [], capsys), re.M)


@pytest.mark.parametrize(
    ("name", "words", "values"),
    [
        ("lf.train", "", {"steps": "4000", "network.width": "128", "ema": "[0.998]", "runtime.workers": "2"}),
        ("lf.train", "preset=lf_l_imagenet256 batch=256", {"steps": "100080", "batch": "256", "network.width": "1024",
         "latents": "[dinov2]", "schedule": "cascaded", "schedule.p_latent": "0.4", "runtime.workers": "8"}),
        ("lf.train", "latents=[{name: pixels, cells: 2}]", {"pixels: cells": "2", "pixels: unit": "false"}),
        ("lf.train", "latents=tiny", {"latents": "[tiny]", "tiny: steps": "600"}),
        ("lf.evaluate", "", {"n": "1000", "features": "[judge]", "solver": "heun_per_stream", "run": ""}),
        ("lf.evaluate", "preset=imagenet256", {"n": "10000", "features": "[inception-v3-compat,clip-vit-b-32]"}),
        ("lf.evaluate", "run=ID", {"run": "ID", "n": "10000"}),
        ("lf.sample", "path=shifted path.alpha=4", {"n": "16", "steps": "50", "path": "shifted", "path.alpha": "4.0"}),
        ("lf.train_tokenizer", "tokenizer.dim=8", {"n": "1000", "tokenizer.dim": "8", "resolution": "32"}),
        ("lf.convert", "", {"network.width": ""}),
        ("lf.data.prepare", "a b resolution=32", {"resolution": "32", "exif": "false"}),
        ("sweeps.launch", "order_ablation", {"preset": "shapes", "steps": "4000", "runtime.compile": "true"}),
        ("sweeps.launch", "budget=smoke seeds=0-2", {"steps": "6", "seeds": "[0,1,2]", "runtime.compile": "false"}),
        ("sweeps.launch", "preset=imagenet256 runs=there", {"steps": "100080", "runtime.runs": "there"}),
        ("sweeps.guidance", "ID trials=7", {"trials": "7"}),
        ("sweeps.order", "latents=tiny trials=7", {"trials": "7", "end": "0.5"}),
    ],
)  # fmt: skip
def test_a_help_text_shows_the_values_in_force(
    name: str, words: str, values: dict[str, str], at: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    at(ROOT / "README.md")
    given = re.findall(r"\S+=\[.*?\]\S*|\S+", words)
    lines = shown(name, given, capsys).splitlines()
    for key, value in values.items():
        (line,) = (line for line in lines if re.match(rf"  {re.escape(key)}( |$)", line))
        assert line[29:].strip() == value or line[29:].startswith(value.ljust(10)), line


@pytest.mark.parametrize("words", ["schedule=cascadd", "preset=lf", "steps"])
def test_a_wrong_word_beside_help_is_named(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "=" not in words:
        assert "4000" in shown("lf.train", [words], capsys)
    else:
        with pytest.raises(UserError, match=words.partition("=")[2]):
            command("lf.train").main([words, "--help"])
