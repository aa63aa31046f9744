"""`python -m sweeps.guidance RUN [key=value …]`: searches for the best guidance with Optuna.

It searches scales, intervals, latent shift and kind of guidance.

    python -m sweeps.guidance RUN --trials 50 --workers 4
    python -m sweeps.guidance RUN guide=GUIDE scale.dinov2=[1,4,0.1] end=1
    python -m lf.evaluate run=RUN \\
        preset=runs/sweeps/guidance-ID/guidance.yaml    # the best settings

RUN is a training's id, its folder or its cell (``python -m lf.runs``). The first trial is unguided; then come
``points``, a coarse grid over the scales, and the proposals of a Gaussian process. A trial takes as long as
``lf.evaluate`` on one worker; an evaluation that exists already is reused. All trials use the same noise. The same
command resumes the search; a larger ``trials`` extends it. The folder ``runs/sweeps/guidance-ID`` holds the study
(``study.journal``, for optuna-dashboard), the trials as rows, the best settings as presets, and Optuna's plots.
"""

from pathlib import Path

from lf.core.cli import Parser, help_of, run_command
from lf.core.parsing import overrides
from sweeps.jobs.monitor import console
from sweeps.search.guidance import SearchLaunch, search
from sweeps.search.outcome import plots, presets, show

QUESTION = "Which guidance suits a trained network? Scales, intervals, latent shift and kind, searched with Optuna."


def main(argv: list[str]) -> None:
    parser = Parser(__doc__, lambda words: help_of(SearchLaunch, overrides(words)))
    parser.add_argument("run", metavar="RUN", help="training run: id or its start, folder, or cell")
    for name in ("trials", "workers", "executor"):
        parser.add_argument(f"--{name}", help=f"short for {name}=…")
    parser.add_argument("words", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(argv)
    words = [*options.words, *(f"{k}={v}" for k in ("trials", "workers", "executor") if (v := getattr(options, k)))]
    run = str(Path(options.run).parent) if Path(options.run).is_file() else options.run
    trials = search(run, words, QUESTION)
    show(trials)
    for file in [*presets(trials, run), *plots(trials)]:
        console.print(str(file), soft_wrap=True, highlight=False)


if __name__ == "__main__":
    run_command(main)
