"""The words of a command go through its own parser, and nothing is started."""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

from analysis import folders
from lf.config import Evaluation, Source, Training
from lf.config.cli import config_over_preset
from lf.core.cli import Parser, config_from
from lf.core.parsing import overrides
from lf.core.runtime import Runtime
from lf.runs import find_training
from sweeps.questions import names


class Parsed(Exception):
    """The words of a command were understood, and it would begin now."""


def command(name: str) -> ModuleType:
    """The module that ``python -m name`` runs."""
    package = importlib.util.find_spec(name)
    assert package, f"no module {name}"
    return importlib.import_module(f"{name}.__main__" if package.submodule_search_locations else name)


# How the words of each command are parsed


def _train(words: list[str]) -> None:
    words = [word for word in words if word.partition("=")[0] != "--dry-run"]
    config_over_preset(words, Training, "training", None)


def _train_tokenizer(words: list[str]) -> None:
    module: Any = command("lf.train_tokenizer")
    base = {key: value for key, value in module.protocol_for(Source()).items() if key in ("n", "features")}
    base |= {"tokenizer": {"name": "autoencoder"}}
    config = config_over_preset(words, module.Command, "training", None, base)
    config.tokenizer.stream(config.resolution, config.patch)


def _sample(words: list[str]) -> None:
    config = config_over_preset(words, command("lf.sample").Command, "evaluation", None, base={})
    config.path_for(find_training(config.run, config.runtime).training)


def _evaluate(words: list[str]) -> None:
    module: Any = command("lf.evaluate")
    run = next(word.partition("=")[2] for word in words if word.startswith("run="))
    trained = find_training(run, Runtime())
    base = module.protocol_for(trained.training)
    config: Evaluation = config_over_preset(words, module.Command, "evaluation", None, base)
    config.path_for(trained.training)
    if config.guidance.guide:
        find_training(config.guidance.guide, Runtime())


def _convert(words: list[str]) -> None:
    assert words[0].endswith(".pth") and "=" not in words[1]
    config_over_preset(words[2:], Training, "training", None)


def _whiten(words: list[str]) -> None:
    base = overrides([f"encoder.name={words[0]}", f"data={words[1]}"])
    config_from(words, command("lf.encoders.whiten").Command, "whitening", None, base, positional=2)


def _over(module: str, model: str) -> Callable[[list[str]], None]:
    """A command of two words and a config."""
    doc = "`python -m MODULE A B [key=value …]`"
    return lambda words: void(config_from(words, getattr(command(module), model), "words", doc, positional=2))


def void(_: object) -> None:
    """Nothing."""


def _launch(words: list[str]) -> None:
    """Plans everything, and starts nothing."""
    module: Any = command("sweeps.launch")
    launch, patch = module.launch, pytest.MonkeyPatch()
    patch.setattr("lf.data.digest", lambda *_: "0" * 16)
    patch.setattr(module, "launch", lambda name, words, **how: launch(name, words, only=how["only"], dry_run=True))
    patch.setattr(
        module, "run_cell", lambda name, words, only, _: module.chosen(module._asked(name, words).cells, only)
    )
    patch.setattr(module.console, "print_json", lambda data: void(data))
    with patch.context():
        try:
            module.main(words)
        finally:
            patch.undo()


def _of_a_sweep(name: str) -> Callable[[list[str]], None]:
    def begin(sweep: str, words: list[str]) -> NoReturn:
        assert sweep in names() or sweep.startswith(("guidance-", "order-")) or Path(f"{sweep}.py").exists(), sweep
        assert all(word.partition("=")[0] == "runs" for word in words if "=" in word)
        raise Parsed

    def parse(words: list[str]) -> None:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed):
            patch.setattr("sweeps.jobs.state.chosen", begin)
            command(name).main(words)

    return parse


def _guidance(words: list[str]) -> None:
    from sweeps.search.guidance import GuidanceSearch, GuidanceSpace, settings

    def begin(run: str, words: list[str], _: str) -> NoReturn:
        asked = settings(words)
        what = GuidanceSearch.model_validate(asked.model_dump(include=set(GuidanceSearch.model_fields)))
        assert GuidanceSpace(what, find_training(run, asked.runtime)).first()
        raise Parsed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed):
        patch.setattr(command("sweeps.guidance"), "search", begin)
        command("sweeps.guidance").main(words)


def _order(words: list[str]) -> None:
    from sweeps.recipe import recipe_of
    from sweeps.search.orders import OrderSearch, OrderSpace

    def begin(words: list[str], _: bool) -> NoReturn:
        assert OrderSpace(recipe_of(OrderSearch, words, "order")).first()
        raise Parsed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed):
        patch.setattr(command("sweeps.order"), "find_order", begin)
        command("sweeps.order").main(words)


def _analysis(words: list[str], optional: bool = False) -> None:
    parser = folders.arguments("`python -m analysis.tables NAME`", optional=optional)
    parser.add_argument("--force", action="store_true")  # of the export
    parser.add_argument("--open", action="store_true")  # of the report
    name = parser.parse_args(words).name
    if optional and (name is None or name.startswith("runs=")):
        return
    assert name in names() or name.startswith(("guidance-", "order-", "run-")) or Path(f"{name}.py").exists(), name


def _notebooks(words: list[str]) -> None:
    assert {*words} <= {*command("analysis.notebooks").GROUPS}


def _benchmarks(words: list[str]) -> None:
    module = importlib.import_module(f"benchmarks.{words[0]}")
    core = importlib.import_module("benchmarks.core")
    (kind,) = (
        c for c in vars(module).values() if isinstance(c, type) and issubclass(c, core.Bench) and c != core.Bench
    )
    core.config_of(words[1:], kind, None)


PARSERS: dict[str, Callable[[list[str]], None]] = {
    "lf.train": _train,
    "lf.train_tokenizer": _train_tokenizer,
    "lf.sample": _sample,
    "lf.evaluate": _evaluate,
    "lf.convert": _convert,
    "lf.runs": lambda words: void(command("lf.runs").asked(words)),
    "lf.data.prepare": _over("lf.data.prepare", "Preparing"),
    "lf.encoders.cache": _over("lf.encoders.cache", "Caching"),
    "lf.encoders.whiten": _whiten,
    "lf.metrics.make_reference": _over("lf.metrics.make_reference", "Command"),
    "sweeps.launch": _launch,
    **{name: _of_a_sweep(name) for name in ("sweeps.status", "sweeps.logs", "sweeps.cancel", "sweeps.retry")},
    "sweeps.guidance": _guidance,
    "sweeps.completion": lambda words: void(command("sweeps.completion").words().parse_args(words)),
    "sweeps.order": _order,
    "analysis": lambda words: void(Parser("`python -m analysis`").parse_args(words)),
    **{f"analysis.{name}": _analysis for name in ("export", "tables", "figures", "findings", "probe")},
    "analysis.report": lambda words: _analysis(words, optional=True),
    "analysis.notebooks": _notebooks,
    "benchmarks": _benchmarks,
}
