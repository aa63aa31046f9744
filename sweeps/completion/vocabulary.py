"""What can be typed after each command: its options, words, keys and values, as a table. Imports all commands."""

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from importlib import import_module
from importlib.util import find_spec
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from analysis import notebooks
from lf import data, encoders, evaluate, sample, schedules, train_tokenizer
from lf.config import Evaluation, Training
from lf.config.presets import PRESETS
from lf.config.schema import stream_names
from lf.core.cli import typed
from lf.core.parsing import NAMED
from lf.core.plugins import found
from lf.data.prepare import Preparing
from lf.encoders import cache, whiten
from lf.metrics import JUDGE, make_reference, sources
from sweeps.cells import Launch
from sweeps.completion.answer import ROWS, RUN, SWEEP
from sweeps.jobs.profile import Cluster, Shape
from sweeps.questions import names
from sweeps.search.guidance import SearchLaunch
from sweeps.search.orders import OrderSearch

Models = tuple[tuple[str, type[BaseModel]], ...]  # the prefix of their keys, and the models of a command


class Key(NamedTuple):
    """A key, the words that it takes if they are few, and the plugin that has it if it is not the command's own."""

    name: str
    values: list[str]
    of: str = ""


class Command(NamedTuple):
    """What a command takes: keys, and words by place (none where they are paths or free)."""

    models: Models = ()
    words: tuple[list[str], ...] = ()
    more: tuple[str, ...] = ("runs",)  # keys that are in no model


DATA = [*data.WORDS, "folder:", "shards:"]
VALUES = {  # of keys whose type does not say them
    "data": DATA, "given_data": DATA, "preset": [*PRESETS], "features": [JUDGE, *sources()],
    "device": ["auto", "cpu", "cuda"], "run": [RUN], "init": [RUN], "guide": [RUN],
}  # fmt: skip
PLUGINS = {schedules.Schedule: schedules.GROUP, encoders.Encoder: encoders.GROUP}
STREAMS = [*dict.fromkeys(name for encoder in encoders.names() for name in stream_names([encoder]))]
CLUSTER: Models = (("cluster.", Cluster), *((f"cluster.{kind}.", Shape) for kind in ("job", "train", "evaluate")))
OVER_PRESET = ("preset", "runs")
NAMES = ([*names(), SWEEP, ROWS],)
COMMANDS = {
    "lf.train": Command((("", Training),), more=OVER_PRESET),
    "lf.train_tokenizer": Command((("", train_tokenizer.Command),), more=OVER_PRESET),
    "lf.sample": Command((("", sample.Command),), more=OVER_PRESET),
    "lf.evaluate": Command((("", evaluate.Command),), more=OVER_PRESET),
    "lf.convert": Command((("", Training),), more=()),
    "lf.runs": Command(words=(["rm", "gc", RUN], [RUN])),
    "lf.data.prepare": Command((("", Preparing),), (["torchvision:", "parquet:"],)),
    "lf.encoders.cache": Command((("", cache.Caching),), (encoders.names(), ["shards:"])),
    "lf.encoders.whiten": Command((("", whiten.Command),), (encoders.names(), DATA)),
    "lf.metrics.make_reference": Command((("", make_reference.Command),), (DATA,)),
    "sweeps.launch": Command((("", Launch), ("", Training), ("evaluation.", Evaluation), *CLUSTER), (names(),)),
    "sweeps.guidance": Command((("", SearchLaunch), *CLUSTER), ([RUN],)),
    "sweeps.order": Command((("", OrderSearch), ("", Training), ("evaluation.", Evaluation), *CLUSTER)),
    **{f"sweeps.{name}": Command(words=([SWEEP],)) for name in ("status", "logs", "cancel", "retry")},
    "sweeps.completion": Command(words=(["bash", "zsh"],), more=()),
    "analysis": Command(more=()),
    **{f"analysis.{n}": Command(words=NAMES) for n in ("export", "tables", "figures", "findings", "probe", "report")},
    "analysis.notebooks": Command(words=([*notebooks.GROUPS],), more=()),
}


def table() -> dict[str, dict[str, Any]]:
    """By command: its ``options``, its ``words`` by place, its ``keys`` with their values, and ``of``.

    ``of`` has the names of the plugins that have a key, such as ``schedule.alpha``, if it is one of a plugin.
    """
    made = {}
    for name, command in COMMANDS.items():
        keys, of = dict[str, list[str]](), dict[str, list[str]]()
        for key in (key for prefix, model in command.models for key in typable(model, prefix)):
            keys.setdefault(key.name, key.values)
            if key.of:
                of.setdefault(key.name, []).append(key.of)
        keys |= {key: VALUES.get(key, []) for key in command.more}
        made[name] = {"options": options(name), "words": command.words, "keys": keys, "of": of}
    return made


def options(command: str) -> list[str]:
    """The options that the help of a command names."""
    package = find_spec(command)
    module = import_module(f"{command}.__main__" if package and package.submodule_search_locations else command)
    shown = io.StringIO()
    with redirect_stdout(shown), suppress(SystemExit):
        module.main(["--help"])
    return sorted({"--help", *re.findall(r"(?<![\w-])--[a-z][a-z-]*(?![\w-])", shown.getvalue())})


def typable(model: type[BaseModel], prefix: str = "", of: str = "") -> Iterator[Key]:
    """The keys of a config, with those of its parts, and of every plugin that it can name (``of``: which)."""
    for name, field in model.model_fields.items():
        if of and name == "name":
            continue
        key, types = prefix + (field.alias or name), [*_types(field.annotation)]
        models = [kind for kind in types if isinstance(kind, type) and issubclass(kind, BaseModel)]
        group = next((group for base, group in PLUGINS.items() if models and issubclass(models[0], base)), "")
        if get_origin(field.annotation) is dict:
            yield from [Key(key, [], of)] * bool(field.metadata)  # one value may be given for all
            yield from [Key(f"{key}.{each}", [], of) for each in _names(name, get_args(field.annotation)[1])]
        elif models and not group:
            yield from [Key(key, VALUES.get(name, []))] * (name in NAMED)
            yield from typable(models[0], f"{key}.")
        else:
            yield Key(key, sorted(found(group)) if group else VALUES.get(name) or _words(types), of)
        for plugin, point in found(group).items() if name in (*NAMED, "encoder") and not of else ():
            with suppress(ImportError):  # it needs what is not installed
                yield from typable(point.load(), f"{key}.", plugin)


def _types(annotation: Any) -> Iterator[Any]:
    """The types of which a type is one, or many: of ``tuple[Literal["a"], ...] | None`` ``Literal["a"]`` and None."""
    if isinstance(annotation, UnionType) or get_origin(annotation) in (Union, Annotated, tuple):
        for part in get_args(annotation):
            yield from _types(part)
    else:
        yield annotation


def _names(key: str, value: Any) -> list[str]:
    """The names that a mapping of names to ``value`` has, where they are known: streams, or feature spaces."""
    if value is Any or value is str:
        return [*sources()] if key in ("reference", "weights") else []
    return STREAMS


def _words(types: list[Any]) -> list[str]:
    """The words that values of these types are typed as, where they are few."""
    if bool in types:
        return ["true", "false"]
    return [typed(word) for kind in types if get_origin(kind) is Literal for word in get_args(kind)]
