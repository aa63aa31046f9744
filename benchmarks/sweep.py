"""`python -m benchmarks sweep [cells=10000]`: start-up time of a task; plan, status and rows of a finished sweep.

    python -m benchmarks sweep cells=10000 rounds=2
    python -m benchmarks sweep cells=180 rounds=1

The sweep is `order_ablation` with as many seeds as needed, in a temporary run store with made-up rows in the real
format. All times are CPU times; a start-up is measured in a new process.
"""

import io
import json
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median

import torch
from pydantic import Field

from analysis.results import PROTOCOL, load
from benchmarks.core import Bench, Work, config_of, keep, now, show, turns
from lf.core.runtime import Runtime
from sweeps import status
from sweeps.cells import Launch
from sweeps.jobs import state
from sweeps.plan import plan
from sweeps.questions import order_ablation

CPU = torch.device("cpu")
STARTED = {
    "python alone": "pass",
    "import torch": "import torch",
    "import sweeps.status": "import sweeps.status",
    "import sweeps.jobs.task (a cell)": "import sweeps.jobs.task",
    "import sweeps.launch": "import sweeps.launch",
}
COMPILED = """
import sys, torch
from lf.config import Training, preset
from lf.core.parsing import parse
from lf.model.denoiser import LatentForcing
model = LatentForcing(parse(Training, preset("shapes")["training"]), 6).eval()
if sys.argv[1:] == ["compile"]:
    model.compile_blocks()
with torch.no_grad():
    model.network([torch.zeros(125, 3, 32, 32)], torch.zeros(125, 1), torch.zeros(125, dtype=torch.long))
"""


class Sweep(Bench):
    """The keys of the command line."""

    cells: int = Field(10_000, ge=18, description="finished cells; 18 per seed")


def started(code: str, *words: str) -> float:
    """Seconds that a new process takes to run ``code``."""
    began = now(CPU)
    subprocess.run([sys.executable, "-c", code, *words], check=True)
    return now(CPU) - began


def finished(cells: int, runs: Path) -> None:
    """Writes a run store in which a sweep of ``cells`` cells is done, with made-up rows."""
    launch = Launch(seeds=tuple(range(-(-cells // 18))), runtime=Runtime(runs=str(runs)))
    all_of_them = list(order_ablation.cells(launch))[:cells]
    planned = plan(all_of_them, launch.runtime)
    manifest = {"sweep": "order_ablation", "executor": "local", **planned.manifest(all_of_them)}
    state.write(runs / "sweeps" / "order_ablation", manifest)
    for cell in all_of_them:
        scored = dict.fromkeys(PROTOCOL, "") | cell.run.config | {"fd": 10.0, "agreement": 0.5, "real_fd": 0.7}
        for run, row in ((cell.trained, {"seconds": 1.0, "seconds_per_step": 0.1}), (cell.run, scored)):
            if not run.folder.exists():
                run.folder.mkdir(parents=True)
                (run.folder / "config.json").write_text(json.dumps(run.config, indent=1))
                (run.folder / "row.json").write_text(json.dumps({"id": run.id, **row}) + "\n")


def main(argv: list[str]) -> None:
    config = config_of(argv, Sweep, __doc__)
    codes: dict[str, tuple[str, ...]] = {name: (code,) for name, code in STARTED.items()}
    codes |= {"a first pass, shapes": (COMPILED,), "a first pass, compiled": (COMPILED, "compile")}
    taken_by = {name: median(started(*code) for _ in range(config.rounds)) for name, code in codes.items()}
    rows = [{"variant": name, "seconds": seconds} for name, seconds in taken_by.items()]
    show("start-up", rows)
    keep("start-up", rows, config, rounds=config.rounds)
    with tempfile.TemporaryDirectory() as name:
        runs = Path(name)
        finished(config.cells, runs)

        def planned() -> None:
            launch = Launch(seeds=tuple(range(-(-config.cells // 18))), runtime=Runtime(runs=name))
            plan(order_ablation.cells(launch), launch.runtime)

        def queried() -> None:
            with redirect_stdout(io.StringIO()):
                status.main(["order_ablation", f"runs={name}"])

        works: dict[str, Work] = {
            "plan": planned, "status": queried, "analysis.load": lambda: load("order_ablation", runs),
        }  # fmt: skip
        taken = turns(works, config.rounds, CPU)
    rows = [{"variant": name, "seconds": median(seconds)} for name, seconds in taken.items()]
    case = f"{config.cells:,} finished cells"
    show(case, rows)
    keep(case, rows, config, rounds=config.rounds)
