"""`python -m sweeps.retry NAME [UNIT …] [runs=FOLDER]`: tries again what stopped for good, and follows it.

It forgets why they stopped and how often, and launches the sweep again with the words it was launched with.
"""

import argparse

from lf.door import door
from lf.errors import UserError
from sweeps import launch, state
from sweeps.logs import pick
from sweeps.status import store


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m sweeps.retry", description=__doc__)
    parser.add_argument("sweep")
    parser.add_argument("--wait", action=argparse.BooleanOptionalAction, default=True, help="follow the jobs (default)")
    parser.add_argument("words", nargs="*", metavar="UNIT or runs=FOLDER")
    options = parser.parse_intermixed_args(argv)
    store_words = [word for word in options.words if "=" in word]
    which = [word for word in options.words if "=" not in word]
    sweep, manifest = state.read(options.sweep, store(store_words))
    if not manifest["cells"]:
        said = " ".join(["python -m sweeps.guidance", manifest["units"][0]["training"], *manifest["words"]])
        raise UserError(f"{options.sweep}: is a search, whose own command tries again: {said}")
    units = [unit for word in which for unit in pick(manifest, word)] if which else manifest["units"]
    for unit in units:
        folder = sweep.parents[1] / "jobs" / unit["key"]
        for name in ("failure.json", "attempts.jsonl"):
            if (folder / name).exists():
                (folder / name).replace(folder / f"before-retry-{name}")
    (sweep / "held.json").unlink(missing_ok=True)
    launch.main([manifest["asked"], *manifest["words"], "--wait" if options.wait else "--no-wait"])


if __name__ == "__main__":
    door(main)
