"""`python -m sweeps.logs NAME TASK [runs=FOLDER]`: a task's attempts, its last error and the end of its log.

    python -m sweeps.logs order_ablation 3
    python -m sweeps.logs order_ablation "train tiny cascaded"

TASK is a task's number in ``sweeps.status``, or a part of its title.
"""

import time
from pathlib import Path

from rich.console import Console

from lf.core.cli import Parser, run_command
from sweeps.jobs import state
from sweeps.jobs.records import attempts, failure_of, job_of

LINES = 40


def main(argv: list[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument("sweep", metavar="NAME")
    parser.add_argument("task", metavar="TASK")
    parser.add_argument("words", nargs="*", metavar="runs=FOLDER")
    options = parser.parse_intermixed_args(argv)
    sweep, _, tasks = state.chosen(options.sweep, [options.task, *options.words])
    console = Console(highlight=False, soft_wrap=True)
    for task in tasks:
        folder = sweep.parents[1] / "jobs" / task["key"]
        console.print(f"{task['kind']} {task['title']}", style="bold", markup=False, end="  ")
        console.print(folder, markup=False)
        for line in attempts(folder):
            at = line.get("began") or line.get("ended")
            when = time.strftime("%d %b %H:%M:%S", time.localtime(at)) if at else ""
            if "began" in line:
                console.print(f"  {when}  began as job {line['job']} on {line['node'] or line['host']}")
            else:
                console.print(f"  {when}  {line['outcome']}  {line.get('message', '')}".rstrip(), markup=False)
        why = failure_of(folder)
        if why:
            console.print(f"  {why['kind']}: {why['message']}\n{why['trace']}", markup=False)
        log = Path(job_of(folder).get("log") or ".")
        for file in (log.with_name(log.name.replace(".err", ".out")), log):
            if file.is_file():
                lines = file.read_text(errors="replace").splitlines()
                console.print(f"  {file}, last {min(LINES, len(lines))} of {len(lines)} lines", markup=False)
                console.print("\n".join(lines[-LINES:]), markup=False)


if __name__ == "__main__":
    run_command(main)
