"""What all benchmarks share: variants timed in turn, operations counted, the table that is printed, the rows kept."""

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

from lf.command import config_from
from lf.config import DType, Runtime, Strict
from lf.files import replace
from lf.flops import large_product
from lf.runs import revision

RESULTS = Path(__file__).parents[1] / "results" / "benchmarks"
Work = Callable[[], Any]
B = TypeVar("B", bound="Bench")


class Bench(Strict):
    """What every benchmark takes."""

    rounds: int = Field(3, ge=1, description="turns of each variant")
    dtype: DType = Field("float32", description="of the matrix products")
    runtime: Runtime = Runtime()


def config_of(argv: list[str], model: type[B], doc: str | None) -> B:
    """The benchmark that a command line asks for, on one thread unless it says otherwise."""
    config = config_from(argv, model, model.__name__.lower(), doc, base={"runtime": {"threads": 1}})
    config.runtime.apply()
    return config


def turns(variants: Mapping[str, Work], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every variant in every round, A B A B …, after a call of each that is not timed (it may compile).

    On a GPU it is time on the clock. On a CPU it is processor time of this process and of those that it waited for:
    what else the machine does stretches the clock and not that. Where a variant returns a number, it has measured
    itself, by `now`.
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
    """Seconds, by the clock that `turns` goes by; waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def counted(work: Work) -> int:
    """Floating-point operations of the matrix products that ``work`` does, uncompiled (a multiply-add counts two)."""
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
    """Times the variants in turn, prints their ratios to the first one and appends a row for each.

    Args:
        case: what is compared; the benchmark is the caller's module.
        variants: name → work; the first is what the others are measured by.
        config: the benchmark's.
        items: images (or whatever is counted) in one call.
        needed: operations that a call takes at least.
        done: operations that each variant does.
        said: more to say of a variant, by name.
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
    """Appends rows to ``results/benchmarks/<benchmark>.jsonl``, each with the machine and the command it came from."""
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
    """Processor, cores and what is computed on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    what = f"{model or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return what + (f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "")
