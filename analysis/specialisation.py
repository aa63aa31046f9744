"""How far short trainings from one trunk rank the orders as trainings from scratch do: the question `specialisation`.

A score is compared order by order within a seed: Kendall's τ between the two rankings, and the regret, which is the
score from scratch of the order that the short trainings pick, minus that of the best order.
"""

import json
from itertools import combinations, permutations

import pandas as pd
from scipy.stats import kendalltau

from analysis.scores import header, over_seeds, scores, sign

SHORT, ON, WHOLE = "specialised", "trunk trained on", "from scratch"  # values of the label `training`
SHARE, TAU = 0.2, 0.7  # what the question asks, fixed beforehand: at this share of the steps, at least this τ
CLOSE = 1e-9


def main_latent(frame: pd.DataFrame) -> str | None:
    """The latent whose orders are also trained from scratch; the others are controls. None if there is none."""
    return next(iter(frame[frame.training == WHOLE].latent), None)


def at_share(frame: pd.DataFrame, share: float = SHARE) -> pd.DataFrame:
    """The rows of the main latent that are of trainings from scratch, or of short ones of this share of the steps."""
    asked = (frame.training == WHOLE) | ((frame.share - share).abs() < CLOSE)
    return frame[(frame.latent == main_latent(frame)) & asked]


def by_order(frame: pd.DataFrame, training: str, share: float | None = None) -> pd.DataFrame:
    """The first score of the main latent's orders, one column an order and one row a seed; missing stays missing."""
    rows = frame[(frame.latent == main_latent(frame)) & (frame.training == training)]
    rows = rows if share is None else rows[(rows.share - share).abs() < CLOSE]
    found = {(row.seed, row.order): getattr(row, scores(frame)[0]) for row in rows.itertuples()}
    return pd.Series(found, dtype=float).unstack() if found else pd.DataFrame(dtype=float)


def compared(short: pd.Series, whole: pd.Series, better: int = 1) -> dict[str, float]:
    """The rankings of the orders by ``short`` and by ``whole``, as far as both have a score.

    Args:
        short, whole: score by order.
        better: 1 if lower scores are better, else -1.

    Returns:
        ``orders``, their number; ``tau``, Kendall's τ-b, missing where all scores of one side are equal; ``regret``, at
        least 0: of several orders that ``short`` ranks first, the mean.
    """
    both = better * pd.DataFrame({"short": short, "whole": whole}).dropna()
    if len(both) < 2:
        return {"orders": len(both), "tau": float("nan"), "regret": float("nan")}
    picked = both.whole[both.short == both.short.min()].mean()
    tau = kendalltau(both.short, both.whole).statistic
    return {"orders": len(both), "tau": float(tau), "regret": float(picked - both.whole.min())}


def transfer(frame: pd.DataFrame) -> pd.DataFrame:
    """`compared` for short trainings against those from scratch.

    Columns: ``training`` (specialised, or the trunk trained on), ``share``, ``seed``, ``orders``, ``tau``, ``regret``.
    Only what two orders at least have a score of.
    """
    whole, rows = by_order(frame, WHOLE), []
    for training in (SHORT, ON):
        for share in sorted(frame[frame.training == training].share.unique()):
            short = by_order(frame, training, share)
            for seed in short.index.intersection(whole.index):
                told = compared(short.loc[seed], whole.loc[seed], sign(scores(frame)[0]))
                rows.append({"training": training, "share": share, "seed": seed, **told})
    found = pd.DataFrame(rows, columns=["training", "share", "seed", "orders", "tau", "regret"])
    return found[found.orders > 1]


def seed_spread(frame: pd.DataFrame) -> float:
    """Standard deviation over seeds of one order's score from scratch, mean over orders; missing for one seed."""
    return float(by_order(frame, WHOLE).std().mean())


def between_seeds(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """τ between the rankings from scratch of every two seeds; and the regret of one's pick in the other."""
    whole, better = by_order(frame, WHOLE), sign(scores(frame)[0])
    seeds = whole.index[whole.notna().sum(axis=1) > 1]
    taus = [compared(whole.loc[a], whole.loc[b], better)["tau"] for a, b in combinations(seeds, 2)]
    regrets = [compared(whole.loc[a], whole.loc[b], better)["regret"] for a, b in permutations(seeds, 2)]
    return pd.Series(taus, dtype=float), pd.Series(regrets, dtype=float)


def flatness(frame: pd.DataFrame, share: float) -> pd.DataFrame:
    """How much the orders differ after short trainings: (max - min) / mean by seed, one column a latent."""
    rows = frame[(frame.training == SHORT) & ((frame.share - share).abs() < CLOSE)].dropna(subset=scores(frame)[:1])
    groups = rows.groupby(["seed", "latent"], sort=False)[scores(frame)[0]]
    found = ((groups.max() - groups.min()) / groups.mean().abs())[groups.count() > 1]
    return found.unstack() if len(found) else pd.DataFrame(dtype=float)


def costs(frame: pd.DataFrame) -> pd.Series:
    """Steps of the trunk and of one short training an order, over those of one whole training an order, by share.

    All steps are counted; missing where no such training has begun yet.
    """
    rows = frame[frame.latent == main_latent(frame)].dropna(subset=["budget"])
    budgets = rows.budget.map(json.loads)
    rows = rows.assign(
        steps=budgets.map(lambda budget: budget["steps"]),
        trunk=budgets.map(lambda budget: budget.get("init", {}).get("steps", float("nan"))),
    )
    orders = frame[frame.latent == main_latent(frame)].order.nunique()
    short = rows[rows.training == SHORT].groupby("share").steps.mean()
    return (rows.trunk.mean() + orders * short) / (orders * rows[rows.training == WHOLE].steps.mean())


def findings(frame: pd.DataFrame) -> list[str]:
    """Whether what was asked beforehand is met, what every share gives and costs, the controls, and what is missing."""
    if not scores(frame) or main_latent(frame) is None:
        return []
    gaps = _missing(frame)
    found = transfer(frame)
    short = found[found.training == SHORT]
    if short.empty:
        told = ["No two orders have a score of a short training and one from scratch: nothing is compared yet."]
    else:
        told = [_asked(frame, short), _shares(frame, short)]
    told += [_levels(frame), _seeds(frame), _flat(frame), _trunk(frame, found)]
    return [line for line in told if line] + gaps


def _asked(frame: pd.DataFrame, short: pd.DataFrame) -> str:
    """The criterion of the question, with the numbers that meet it or do not."""
    asked = (
        f"At {SHARE:.0%} of the steps, a Kendall's τ of at least {TAU:g} with trainings from scratch, and a regret of "
        "at most the spread over seeds, were asked beforehand"
    )
    at, spread = short[(short.share - SHARE).abs() < CLOSE], seed_spread(frame)
    if at.empty or at.tau.isna().all():
        return f"{asked}: open, since no seed has τ at this share."
    high, low = at.tau.mean() >= TAU - CLOSE, at.regret.mean() <= spread + CLOSE
    rows = at_share(frame)
    whole = rows[scores(frame)[0]].notna()[rows.training != ON].all()
    verdict = "not met" if not high or (spread == spread and not low) else "met" if low else "open"
    verdict = verdict if whole or verdict == "open" else f"so far {verdict}"
    margin = f"{spread:.2f}" if spread == spread else "unknown with one seed"
    each = f" (τ {_each(at, 'tau')}; regret {_each(at, 'regret')})" if len(at) > 1 else ""
    return (
        f"{asked}: {verdict}. τ is {_told(at.tau)}, the regret in {header(scores(frame)[0], frame)[:-2]} "
        f"{_told(at.regret)}, the spread {margin}{each}."
    )


def _told(values: pd.Series) -> str:
    known = values.dropna()
    return over_seeds(known) if len(known) else "undefined"


def _each(at: pd.DataFrame, name: str) -> str:
    return ", ".join(f"{value:.2f}" for value in at.sort_values("seed")[name])


def _shares(frame: pd.DataFrame, short: pd.DataFrame) -> str:
    """τ, regret and cost at each share of the steps."""
    orders, cost = frame[frame.latent == main_latent(frame)].order.nunique(), costs(frame)
    parts = []
    for share, part in short.groupby("share"):
        ratio = cost.get(share, float("nan"))
        ratio_told = f"{ratio:.0%}" if ratio == ratio else "unknown"
        parts.append(f"{share:.0%}: {_told(part.tau)}, {_told(part.regret)}, {ratio_told}")
    return (
        "By share of the steps, τ, regret, and the steps of the trunk and all short trainings over those of "
        f"{orders} whole ones: {'; '.join(parts)}."
    )


def _levels(frame: pd.DataFrame) -> str:
    """From which score to which the orders go, short and from scratch."""
    return f"Mean scores after {SHARE:.0%}: {_range(frame, SHORT, SHARE)}; from scratch: {_range(frame, WHOLE)}."


def _range(frame: pd.DataFrame, training: str, share: float | None = None) -> str:
    mean = (sign(scores(frame)[0]) * by_order(frame, training, share).mean()).dropna().sort_values().abs()
    if mean.empty:
        return "none yet"
    return f"{mean.iloc[0]:.2f} ({mean.index[0]}) to {mean.iloc[-1]:.2f} ({mean.index[-1]})"


def _seeds(frame: pd.DataFrame) -> str:
    """What the rankings of trainings from scratch say of each other: as much as can be expected of short ones."""
    taus, regrets = between_seeds(frame)
    if taus.dropna().empty:
        return ""
    return (
        f"For comparison, whole trainings of two seeds rank the orders with a τ of {taus.mean():.2f} (mean of "
        f"{len(taus)} pairs), and the pick of one has a regret of {regrets.mean():.2f} in the other."
    )


def _flat(frame: pd.DataFrame) -> str:
    """The control with latents for which order should hardly matter."""
    flat, main = flatness(frame, SHARE), main_latent(frame)
    parts = [f"{_percent(flat[name])} with {name}" for name in sorted(flat, key=lambda name: name == main)]
    if {*flat} <= {main}:
        return ""
    return (
        "Control, a latent for which order should hardly matter: after "
        f"{SHARE:.0%} best and worst order differ, of the mean, by {', by '.join(parts)}."
    )


def _percent(values: pd.Series) -> str:
    return f"{values.mean():.0%}" + (f" ± {values.std():.0%}" if values.notna().sum() > 1 else " (one seed)")


def _trunk(frame: pd.DataFrame, found: pd.DataFrame) -> str:
    """The control with more steps alone."""
    at = found[(found.training == ON) & ((found.share - SHARE).abs() < CLOSE)]
    if at.empty:
        return ""
    return (
        f"Control, more steps alone: the trunk, trained on for {SHARE:.0%} and sampled along the same paths, has a τ "
        f"of {_told(at.tau)}, a regret of {_told(at.regret)}, and mean scores from {_range(frame, ON, SHARE)}."
    )


def _missing(frame: pd.DataFrame) -> list[str]:
    """What is not done, by kind of training."""
    gone = frame[frame[scores(frame)[0]].isna()]
    if gone.empty:
        return []
    counts = ", ".join(f"{len(part)} {training}" for training, part in gone.groupby("training", sort=False))
    return [f"{len(gone)} of {len(frame)} evaluations are missing ({counts}): all of this is of the others."]
