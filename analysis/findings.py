"""`python -m analysis.findings NAME [runs=FOLDER]`: the findings of a sweep as sentences, with their spread over seeds.

    python -m analysis.findings run-ID
    python -m analysis.findings order_ablation runs=results  # committed rows

A difference is more than the spread if it has the same sign in every seed and its mean exceeds its standard deviation.
Beside it stands how many seeds would settle it: at this difference and spread, by a paired t-test, two-sided 5 %, 80 %
power.
"""

import json
from typing import Any

import pandas as pd

from analysis import orders, specialisation
from analysis.figures import probe
from analysis.folders import source
from analysis.protocol import begun, comparable, spent
from analysis.scores import (
    KINDS,
    best_row,
    best_so_far,
    by_seed,
    clear,
    header,
    label_text,
    labels,
    of_orders,
    path_label,
    rests_on,
    scores,
    sign,
    tokenizers,
    too_few,
)
from analysis.scores import over_seeds as _spread
from lf.core.cli import run_command

MEANT = 10  # with fewer steps or images, numbers mean nothing


def findings(frame: pd.DataFrame) -> list[str]:
    """The findings, one line each, with the numbers that support them.

    Raises:
        UserError: the rows cannot be compared.
    """
    comparable(frame)
    if meant_nothing := smoke(frame):
        return [meant_nothing]
    if orders.is_search(frame):
        return orders.findings(frame)
    if "trial" in labels(frame):
        return searched(frame)
    if of_orders(frame):
        return specialisation.findings(frame)
    told = order(frame) if {"latent", "model", "path", "alpha"} <= {*labels(frame)} else comparisons(frame)
    return told + (attributed(frame) if "given" in labels(frame) else []) + _unequal(frame) + probe.findings(frame)


def _unequal(frame: pd.DataFrame) -> list[str]:
    """A sentence that budgets differ, if some networks are specialised and others trained from scratch."""
    parts = {kind: part for kind, part in frame.groupby(begun(frame))}
    if len(parts) < 2:
        return []
    counts = {kind: part[part.seed == part.seed.min()].evaluation_id.nunique() for kind, part in parts.items()}
    return [
        f"Budgets are not equal: {counts['trunk']} of {sum(counts.values())} cells are of specialised networks, of "
        f"{spent(parts['trunk'])}, the others of {spent(parts['scratch'])} from scratch."
    ]


def smoke(frame: pd.DataFrame) -> str:
    """A sentence that the numbers mean nothing, if they are those of a smoke run; else empty."""
    least: dict[str, int] = {}
    for kind, key in (("budget", "steps"), ("protocol", "n")):
        found = [json.loads(text) for text in frame[kind].dropna().unique()]
        least[key] = min(((one[key] or 0) + _before(one) for one in found), default=MEANT)
    if "budget=smoke" not in frame.attrs["words"] and min(least.values()) >= MEANT:
        return ""
    told = f"{least['steps']:,} steps of training and {least['n']:,} images"
    return f"A smoke run, {told}: it shows that everything runs, and its numbers mean nothing."


def _before(budget: dict[str, Any]) -> int:
    """The steps of the trunk that a training began with."""
    return int(budget.get("init", {}).get("steps", 0))


def comparisons(frame: pd.DataFrame) -> list[str]:
    """Best against worst cell of the same guidance and labels, and guided against unguided, by the first score.

    Differences are computed seed by seed, and are more than the spread if they are `clear`. Best and worst are chosen
    afterwards: among many cells, some differ by chance.
    """
    if not scores(frame):
        return []
    score = scores(frame)[0]
    kinds = [name for name in KINDS if name in labels(frame)]
    cells = frame.dropna(subset=[score])
    lines = []
    for values, part in cells.groupby(kinds, sort=False) if kinds else [((), cells)]:
        title = "".join(f"{name} {value}: " for name, value in zip(kinds, values, strict=True))
        seeds = by_seed(part, score, kinds)
        ranked = (sign(score) * seeds.mean()).sort_values().index
        if len(ranked) > 1:
            first, last = ranked[0], ranked[-1]
            gain = (sign(score) * (seeds[last] - seeds[first])).dropna()
            lines.append(
                f"{title}{header(score, frame)} of {len(ranked)} cells best with {first}, {_spread(seeds[first])}, "
                f"worst with {last}, {_spread(seeds[last])}; apart by {_apart(gain)}."
            )
    if len(tokenizers(cells)):
        lines.append(_reconstruction(tokenizers(cells), score))
    if "guidance" in kinds:
        plain, *guided = (by_seed(cells[cells.guidance == kind], score, ["guidance"]) for kind in _kinds(cells))
        for kind, seeds in zip(_kinds(cells)[1:], guided, strict=True):
            gains = (sign(score) * (plain - seeds)).dropna(axis=1, how="all")
            each = [gain.dropna() for _, gain in gains.items()]
            better = [gain for gain in each if gain.mean() > 0 and (len(gains) < 2 or clear(gain))]
            few = sum(map(too_few, better))
            lines.append(
                f"guidance {kind} gains {gains.mean().min():.2f} to {gains.mean().max():.2f} on unguided; it is "
                f"better in {len(better)} of {gains.shape[1]} cells"
                + (", by more than the spread" if len(gains) > 1 else " (one seed)")
                + (f"; {few} of them on too few seeds." if few and len(gains) > 1 else ".")
            )
    return lines


def attributed(frame: pd.DataFrame) -> list[str]:
    """How much of the score above the floor is the plan's: what given real latents gain, unguided, for each latent."""
    score = scores(frame)[0]
    cells = frame[frame.guidance == "none"].dropna(subset=[score]) if "guidance" in frame else frame
    lines = []
    for (latent, noise), part in cells.groupby(["latent", "noise"], sort=False):
        drawn, given = (part[(part.given != "no") == asked].set_index("seed") for asked in (False, True))
        if drawn.empty or given.empty or f"real_{score}" not in part:
            continue
        share = ((drawn[score] - given[score]) / (drawn[score] - drawn[f"real_{score}"])).dropna() * 100
        degree = f" and noise {noise:g}" if noise else ""
        lines.append(
            f"Real latents {latent} given instead of generated ones{degree}: {header(score, frame)} "
            f"{_spread(given[score])} instead of {_spread(drawn[score])} "
            f"({rests_on((drawn[score] - given[score]).dropna())}); of what is above the floor "
            f"({drawn[f'real_{score}'].mean():.2f}), {_spread(share)} % is the plan's, the rest the rendering's."
        )
    return lines


def searched(frame: pd.DataFrame) -> list[str]:
    """A search's finding: its best trial against the first one, which is unguided."""
    score = scores(frame)[0]
    ordered = frame.dropna(subset=[score]).sort_values("trial", ignore_index=True)
    first, best = (ordered.to_dict("index")[row] for row in (0, best_row(ordered)))
    squares = [n * n for n in range(2, 8) if n * n <= len(ordered)]  # the sizes of full grids over two scales
    so_far = [best_so_far(ordered)[n - 1] for n in squares]
    gain = sign(score) * (first[score] - best[score])
    point = ", ".join(f"{name} {label_text(best[name])}" for name in labels(frame) if name != "trial")
    text = (
        f"{header(score, frame)} of {len(ordered)} trials best with {point} (trial {best['trial']}), "
        f"{best[score]:.2f}, against {first[score]:.2f} unguided: a gain of {gain:.2f} with one network and one noise, "
        "picked as the best of many; other noise would show less of it."
    )
    if squares:
        text += f" After {', '.join(map(str, squares))} trials it was {', '.join(f'{value:.3f}' for value in so_far)}."
    return [text]


def _reconstruction(cells: pd.DataFrame, score: str) -> str:
    """The finding whether a tokenizer's reconstruction predicts how well its latents are generated."""
    by_seed = [part[["psnr", score]].corr("spearman").iloc[0, 1] for _, part in cells.groupby("seed")]
    return (
        f"Over {cells.training_id.nunique() // cells.seed.nunique()} tokenizers the PSNR of what they reconstruct and "
        f"the {header(score, cells)} of what is generated have a rank correlation of {_spread(pd.Series(by_seed))}."
    )


def _kinds(cells: pd.DataFrame) -> list[str]:
    """The kinds of guidance, with ``none`` first."""
    return sorted(cells.guidance.unique(), key=lambda kind: kind != "none")


def _apart(gain: pd.Series) -> str:
    """A difference with its spread, whether it is more than that, and how many seeds would settle it."""
    told = f" ± {gain.std():.2f}, {'' if clear(gain) else 'not '}more than the spread" if len(gain) > 1 else ""
    return f"{gain.mean():.2f}{told} ({rests_on(gain)})"


def order(frame: pd.DataFrame) -> list[str]:
    """The order ablation's findings; paths are chosen by their mean over seeds, not separately for each seed."""
    where = [path_label(path, alpha) for path, alpha in zip(frame.path, frame.alpha, strict=True)]
    cells = frame.assign(where=where).dropna(subset=["fd"])
    lines = []
    rows = [cells[cells.model == model] for model in ("cascaded", "pixel_only")]
    trained, jit = (part.set_index("seed").fd for part in rows)
    if len(trained) and len(jit):
        ratio = (trained / jit).dropna()
        budgets = [spent(part) for part in rows]
        budget = "equal budget" if len({*budgets}) == 1 else f"{budgets[0]} against {budgets[1]}"
        each = f"; {'' if ratio.max() < 1 else 'not '}better in every seed" if len(ratio) > 1 else ""
        lines.append(
            f"Trained for its order (cascaded) against pixels alone (JiT), {budget}: {_spread(trained)} against "
            f"{_spread(jit)}, a ratio of {_spread(ratio)}{each} ({rests_on((jit - trained).dropna())})."
        )
    independent = cells[cells.model == "independent"]
    lines += [_orders(latent, part) for latent, part in independent.groupby("latent", sort=False)]
    return lines


def _orders(latent: object, cells: pd.DataFrame) -> str:
    """The finding for one latent: its best latent-first path against its best pixels-first one; spread over alpha."""
    fd = cells.pivot_table(index="seed", columns="where", values="fd")
    mean = cells[cells.alpha.notna()].groupby("alpha").fd.mean()
    text = (
        f"One independent model with {latent}, {cells.score.iloc[0]} over alpha {mean.min():.2f} to {mean.max():.2f} "
        f"(a spread of {mean.max() / mean.min() - 1:.0%})"
    )
    first = cells[(cells.alpha >= 4) | (cells.path == "cascaded")]
    later = cells[cells.alpha <= 1 / 4]
    if first.empty or later.empty:
        return text + "."
    best, other = _best(first), _best(later)
    gain = (fd[other] - fd[best]).dropna()
    text += (
        f"; best latent-first path ({best}) {_spread(fd[best])}, best pixels-first ({other}) {_spread(fd[other])}: "
        f"latent-first gains {_apart(gain)}"
    )
    if "agreement" in cells:
        agree = cells.groupby("where").agreement.mean()
        text += f"; agreement {agree[best]:.3f} against {agree[other]:.3f}, {agree[best] / agree[other]:.2f} times"
    return text + "."


def _best(cells: pd.DataFrame) -> str:
    return str(cells.groupby("where").fd.mean().idxmin())


def main(argv: list[str]) -> None:
    frame, _, _ = source(argv, __doc__)
    print(*(f"- {line}" for line in findings(frame)), sep="\n")


if __name__ == "__main__":
    run_command(main)
