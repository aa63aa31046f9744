"""Shared by all benchmarks: timing of variants, FLOP counts, the printed table, the stored rows."""

import json
import os
import platform
import resource
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from pydantic import Field
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from lf.config.schema import DType
from lf.core.cli import config_from
from lf.core.parsing import Strict
from lf.core.runtime import Runtime
from lf.runs import revision
from lf.storage.atomic import replace
from lf.training.flops import large_product

RESULTS = Path(__file__).parents[1] / "results" / "benchmarks"
Work = Callable[[], Any]
B = TypeVar("B", bound="Bench")


class Bench(Strict):
    """The keys of every benchmark."""

    rounds: int = Field(3, ge=1, description="timed calls of each variant")
    dtype: DType = Field("float32", description="number format of matrix products")
    runtime: Runtime = Runtime()


def config_of(argv: list[str], model: type[B], doc: str | None) -> B:
    """The settings of a command line; one thread by default."""
    config = config_from(argv, model, model.__name__.lower(), doc, base={"runtime": {"threads": 1}})
    config.runtime.apply()
    return config


def turns(variants: Mapping[str, Work], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every variant in every round, A B A B …, after an untimed warm-up call of each (it may compile).

    On a GPU it is wall-clock time. On a CPU it is CPU time of this process and its child processes, which the load of
    the machine affects less. A variant that returns a number has measured its time itself, with `now`.
    """
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for work in variants.values():
        work()
    for _ in range(rounds):
        for name, work in variants.items():
            began = now(device)
            measured = work()
            taken[name].append(measured if isinstance(measured, float) else now(device) - began)
    return taken


def now(device: torch.device) -> float:
    """Seconds on the clock that `turns` uses; synchronises with the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def counted(work: Work) -> int:
    """FLOPs of the matrix products in ``work``, uncompiled (a multiply-add is two)."""
    with FlopCounterMode(display=False) as counter, torch.compiler.set_stance("force_eager"):
        work()
    return counter.get_total_flops()


def compare(
    case: str,
    variants: Mapping[str, Work],
    config: Bench,
    *,
    items: int,
    needed: float = 0,
    done: Mapping[str, float] | None = None,
    said: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Times the variants alternately, prints their ratios to the first one, and appends a row for each.

    Args:
        case: what is compared; the benchmark's name is that of the caller's module.
        variants: name → work; the first one is the baseline.
        config: the benchmark's settings.
        items: images (or other items) per call.
        needed: FLOPs that a call needs at least.
        done: FLOPs of each variant.
        said: remarks on variants, by name.
    """
    device = config.runtime.torch_device
    product, flops = large_product(device, config.dtype)
    taken = turns({**variants, "product": product}, config.rounds, device)
    rate = flops / min(taken.pop("product"))
    first = taken[next(iter(variants))]
    rows = []
    for name, seconds in taken.items():
        each = median(seconds)
        row = {"variant": name, "ratio": median(a / b for a, b in zip(first, seconds, strict=True))}
        row |= {"per_second": items / each, "seconds": each, "fastest": min(seconds), "slowest": max(seconds)}
        if needed:
            row |= {
                "flops_done": (done or {}).get(name),
                "flops_needed": needed,
                "matmul_rate": rate,
                "mfu": needed / each / rate,
            }
        rows.append(row | dict((said or {}).get(name, {})))
    show(case, rows)
    keep(case, rows, config, items=items, rounds=config.rounds)


def show(case: str, rows: list[dict[str, Any]]) -> None:
    """Prints rows as a table."""
    table = Table(box=None, title=case, title_justify="left", pad_edge=False)
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        text = all(isinstance(row.get(name), str) for row in rows)
        table.add_column(name.replace("_", " "), justify="left" if text else "right")
    for row in rows:
        values = (row.get(name) for name in names)
        table.add_row(*("" if v is None else f"{v:.3g}" if isinstance(v, float | int) else str(v) for v in values))
    Console(width=None if Console().is_terminal else 160).print(table)


def keep(case: str, rows: list[dict[str, Any]], config: Bench, **more: Any) -> None:
    """Appends rows to ``results/benchmarks/<benchmark>.jsonl``, each with the machine and the command."""
    benchmark = type(config).__module__.rpartition(".")[2]
    common = {
        "case": case,
        "command": shlex.join(["python", "-m", "benchmarks", benchmark, *sys.argv[2:]]),
        "machine": machine(config.runtime.torch_device),
        "dtype": config.dtype,
        "torch": torch.__version__,
        "revision": revision(),
        **more,
    }
    file = RESULTS / f"{benchmark}.jsonl"
    before = file.read_text() if file.exists() else ""
    replace(file, before + "".join(json.dumps({**row, **common}) + "\n" for row in rows))


def machine(device: torch.device) -> str:
    """Processor, cores, threads and GPU of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    what = f"{model or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return what + (f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "")
