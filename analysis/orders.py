"""The rows of a search for an order (`sweeps.order`): its table with a column for every length, and its finding."""

import json
from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis.scores import SCORES, header, scores, sign

FRESH, SECOND = "fresh noise", "second seed"
NOTE = (
    "the best order at the greatest length. A column in % is a length of the trainings, as a share of a whole one's "
    "steps; scores without a length are those after the longest training of an order."
)


def is_search(frame: pd.DataFrame) -> bool:
    """Whether the rows are those of a search for an order."""
    return {"order", "share", "noise"} <= {*frame.attrs["labels"]}


def halving(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that orders are compared by: all but those with fresh noise or the second seed."""
    return frame[(frame.seed == frame.seed.min()) & (frame.noise == frame.noise.min())]


def objective(frame: pd.DataFrame) -> str:
    """The score that the search went by; of several, the first."""
    asked = [word.partition("=")[2] for word in frame.attrs["words"] if str(word).startswith("objectives=")]
    first = asked[-1].strip("[]() ").split(",")[0].strip() if asked else ""
    return first if first in scores(frame) else scores(frame)[0]


def winner(frame: pd.DataFrame) -> Any:
    """The row of the best order at the greatest length that was scored; with a Pareto front, by its `objective`."""
    score = objective(frame)
    done = halving(frame).dropna(subset=[score])
    last = done[done.share == done.share.max()]
    return last.loc[(sign(score) * last[score]).idxmin()]


def table(frame: pd.DataFrame, bold: Callable[[str], str]) -> pd.DataFrame:
    """The scores as text, with a row for every order.

    The `objective` has a column for every length, and two for the best order at its end: with fresh noise, and with a
    second seed. All other scores are those after the longest training of an order.
    """
    best, every, score = winner(frame).order, list(dict.fromkeys(frame.order)), objective(frame)
    usual, text = halving(frame), {"order": [bold(name) if name == best else name for name in every]}
    parts = {f"{share:.0%}": usual[usual.share == share] for share in sorted(usual.share.unique())}
    parts[FRESH] = frame[(frame.seed == frame.seed.min()) & (frame.noise > frame.noise.min())]
    parts[SECOND] = frame[frame.seed > frame.seed.min()]
    columns = [(title, part, score) for title, part in parts.items() if len(part)]
    columns[0] = (f"{header(score, frame)} {columns[0][0]}", *columns[0][1:])
    last = usual.dropna(subset=[score]).sort_values("share", kind="stable").drop_duplicates("order", keep="last")
    columns += [(header(name, frame), last, name) for name in scores(frame) if name != score]
    for title, part, name in columns:
        values = part.drop_duplicates("order").set_index("order")[name]
        text[title] = [_told(values, order, name) for order in every]
    return pd.DataFrame(text)


def _told(values: pd.Series, order: str, score: str) -> str:
    if order not in values.index:
        return "–"
    return "missing" if pd.isna(values[order]) else f"{values[order]:.{SCORES[score][0]}f}"


def identities(frame: pd.DataFrame) -> list[dict[str, list[str]]]:
    """For each row of the table the ids of its trainings and evaluations, the longest training last."""
    parts = [part for _, part in frame.groupby("order", sort=False)]
    return [{kind: list(dict.fromkeys(p[f"{kind}_id"])) for kind in ("training", "evaluation")} for p in parts]


def steps(frame: pd.DataFrame) -> tuple[int, int]:
    """Training steps that the rows took in full, with the trunk's, and those of the trunk, which a training has."""
    budgets = frame.budget.dropna().map(lambda text: json.loads(text)["steps"])
    longest = frame.assign(steps=budgets).dropna(subset=["steps"])
    if longest.empty:
        return 0, 0
    last = longest.sort_values("share").iloc[-1]
    trunk = round(last.steps / last.share)
    # A longer training continues the shorter one of the same order and seed.
    return trunk + int(longest.groupby(["order", "seed"]).steps.max().sum()), trunk


def findings(frame: pd.DataFrame) -> list[str]:
    """One sentence on the best order, how far to trust it, and what it cost."""
    score = objective(frame)
    digits, best, usual = SCORES[score][0], winner(frame), halving(frame).dropna(subset=[score])
    same = frame[(frame.order == best.order) & (frame.share == best.share)]
    fresh = same[(same.seed == best.seed) & (same.noise > best.noise)][score].dropna()
    second = same[same.seed > best.seed][score].dropna()
    checks = [f"with {name} {part.iloc[0]:.{digits}f}" for name, part in ((FRESH, fresh), (f"a {SECOND}", second))
              if len(part)]  # fmt: skip
    checked = f" ({', '.join(checks)})" if checks else ""
    told = (
        f"{header(score, frame)} of {usual.order.nunique()} orders best with {best.order}, "
        f"{best[score]:.{digits}f}{checked} after {best.share:.0%} of a whole training's steps"
    )
    first = frame.order.iloc[0]
    if best.order == first:
        told += "; it is the first order that was tried"
    else:
        values = usual.pivot_table(index="share", columns="order", values=score)
        both = values[[first, best.order]].dropna() if first in values else values[:0]
        if len(both):
            share, (was, now) = both.index[-1], both.iloc[-1]
            told += f"; the first order that was tried, {first}, had {was:.{digits}f} after {share:.0%} of them, "
            told += f"where the best one had {now:.{digits}f}"
    spent, trunk = steps(frame)
    cost = f" The search took {spent:,} training steps, those of the trunk included, as many as {spent / trunk:.1f} "
    return [f"{told}.{cost}whole trainings."]


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of which images are shown: the first order and those of the greatest length."""
    usual = halving(frame)
    return usual[(usual.share == usual.share.max()) | (usual.index == usual.index[0])]
