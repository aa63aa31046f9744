"""`python -m sweeps.retry NAME [TASK …] [runs=FOLDER]`: resubmits failed and cancelled tasks.

    python -m sweeps.retry order_ablation
    python -m sweeps.retry order_ablation "tiny cascaded" --no-wait

It deletes the records of their failures, launches the sweep with the same words again, and monitors it.
"""

import argparse

from lf.core.cli import Parser, run_command
from lf.core.errors import UserError
from sweeps.jobs import state
from sweeps.launch import main as launch


def main(argv: list[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument("sweep", metavar="NAME")
    parser.add_argument("--wait", action=argparse.BooleanOptionalAction, default=True, help="monitor the jobs")
    parser.add_argument("words", nargs="*", metavar="TASK or runs=FOLDER", help="by default all tasks")
    options = parser.parse_intermixed_args(argv)
    sweep, manifest, tasks = state.chosen(options.sweep, options.words)
    order = sweep.name.startswith("order-")
    if order or not manifest["cells"]:
        module = ["sweeps.order"] if order else ["sweeps.guidance", manifest["units"][0]["training"]]
        command = " ".join(["python -m", *module, *manifest["words"]])
        kind = "search for an order" if order else "guidance search"
        raise UserError(f"{options.sweep}: is a {kind}; resume it with: {command}")
    for task in tasks:
        folder = sweep.parents[1] / "jobs" / task["key"]
        for name in ("failure.json", "attempts.jsonl"):
            if (folder / name).exists():
                (folder / name).replace(folder / f"before-retry-{name}")
    (sweep / "held.json").unlink(missing_ok=True)
    launch([manifest["asked"], *manifest["words"], "--wait" if options.wait else "--no-wait"])


if __name__ == "__main__":
    run_command(main)
