"""`python -m sweeps.order latents=… [key=value …]`: finds the order in which some streams should be denoised.

    python -m sweeps.order data=shapes latents=tiny --dry-run
    python -m sweeps.order 'latents=[tiny,{name: pixels, cells: 2}]' --trials 16
    python -m lf.train \\
        preset=runs/sweeps/order-ID/order.yaml    # the best order

One `independent` network, the trunk, is trained once. Every order that is tried is trained on from it for a short while
(``shares``); the better half goes on from there, and so on; the best one is trained to its end and scored with fresh
noise and a second seed, too. The first orders are the families' usual ones; then a Gaussian process proposes. Nothing
is trained twice: the same command resumes the search, and a sweep or another search finds its trainings. The folder
``runs/sweeps/order-ID`` holds the study, the trials as rows, and the best order as a preset and as a file of points.
"""

from lf.core.cli import Parser, help_of, run_command
from sweeps.recipe import recipe_of
from sweeps.search.halving import find_order
from sweeps.search.order_outcome import show, write
from sweeps.search.orders import OrderSearch


def _explained(words: list[str]) -> list[str]:
    asked = recipe_of(OrderSearch, words, "order")
    return help_of(OrderSearch, dict(asked), without=("training", "points"))


def main(argv: list[str]) -> None:
    parser = Parser(__doc__, _explained)
    for name in ("trials", "workers", "executor"):
        parser.add_argument(f"--{name}", help=f"short for {name}=…")
    parser.add_argument("--dry-run", action="store_true", help="print what it costs and start nothing")
    parser.add_argument("words", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(argv)
    words = [*options.words, *(f"{k}={v}" for k in ("trials", "workers", "executor") if (v := getattr(options, k)))]
    if found := find_order(words, options.dry_run):
        show(found, write(found))


if __name__ == "__main__":
    run_command(main)
