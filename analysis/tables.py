"""`python -m analysis.tables NAME [runs=FOLDER]`: writes a sweep's table as Markdown, CSV and LaTeX.

    python -m analysis.tables order_ablation
    python -m analysis.tables order_ablation runs=results  # committed rows

With several seeds it also writes ``pairs.csv``: all pairs of cells, compared seed by seed.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import pandas as pd

from analysis import orders
from analysis.folders import source
from analysis.protocol import begun, caption, comparable, data_of, floor
from analysis.published import tables_of
from analysis.scores import (
    KINDS,
    MOST_SEEDS,
    SCORES,
    by_seed,
    clear,
    header,
    kinds_of,
    label_text,
    labels,
    of_orders,
    path_label,
    scores,
    seeds_needed,
    sign,
)
from lf.core.cli import run_command
from lf.core.errors import UserError
from lf.storage.atomic import replace

ALIKE = "with the same latent, training and share"
TEX = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "±": r"$\pm$", "↓": r"$\downarrow$",
                     "↑": r"$\uparrow$", "α": r"$\alpha$", "β": r"$\beta$", "·": r"$\cdot$"})  # fmt: skip
BESIDE = ("cell", "from")  # columns that stand with the labels
FROM = "from"  # column: whether a cell's network is specialised from a trunk, or trained from scratch
BOLD = (
    "Bold: the best of those guided and labelled alike, where it is ahead of the second by more than the spread, "
    "√(sd₁² + sd₂²) of the two over seeds."
)


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every score, one row per cell; missing values stay missing.

    Columns: the labels, ``from`` (trunk or scratch, if both occur and no label says it), ``seeds`` (the number of
    finished ones), each score and its ``_sd``, and the published numbers if the rows are of the same data.

    Raises:
        UserError: no cell is done, or the rows cannot be compared.
    """
    if frame.protocol.isna().all():
        raise UserError(f"{frame.attrs['sweep']}: no cell is done yet")
    comparable(frame)
    found, cells = scores(frame), labels(frame)
    if cells:
        groups = frame.groupby(cells, dropna=False, sort=False)
    else:
        groups = frame.assign(cell="the only one").groupby(["cell"], sort=False)
    mean, sd = groups[found].mean(), groups[found].std()
    out = pd.DataFrame({"seeds": groups.evaluation_id.count() if not found else groups[found[0]].count()})
    for name in found:
        out[name], out[f"{name}_sd"] = mean[name], sd[name]
    out = out.reset_index()
    if mixed(frame) and FROM not in cells and not of_orders(frame):
        out.insert(
            max(1, len(cells)),
            FROM,
            list(frame.assign(**{FROM: begun(frame)}).groupby(cells, dropna=False, sort=False)[FROM].first()),
        )
    if any(name in data_of(frame) for name in ("imagenet", "in256")):
        for published in tables_of(frame.attrs["sweep"]):
            if published.on:
                out[f"published {published.file.partition('_')[0]}"] = published.beside(out)
    return out


def mixed(frame: pd.DataFrame) -> bool:
    """Whether some networks are specialised from a trunk, and others trained from scratch."""
    return begun(frame).nunique() > 1


def identities(frame: pd.DataFrame) -> list[dict[str, list[str]]]:
    """For each row of the table the ids of its ``training`` and its ``evaluation``, one per seed.

    A name that is also a label of cells has ``_id`` behind it.
    """
    cells = labels(frame)
    groups = frame.groupby(cells, dropna=False, sort=False) if cells else [((), frame)]
    names = {f"{kind}_id" if kind in cells else kind: f"{kind}_id" for kind in ("training", "evaluation")}
    return [{name: list(part[column]) for name, column in names.items()} for _, part in groups]


def best(shown: pd.DataFrame, name: str, alike: Sequence[str] = KINDS) -> set[object]:
    """Rows of `table` whose score is the best of those ``alike``, by more than the spread to the second.

    The spread is ``√(sd₁² + sd₂²)``, that of a difference; with only one seed there is none, and no row is best.
    """
    winners: set[object] = set()
    alike = [c for c in alike if c in shown]
    for _, part in shown.groupby(alike, dropna=False) if alike else [((), shown)]:
        order = part.dropna(subset=[name]).sort_values(name, ascending=sign(name) > 0)
        if len(order) > 1:
            (first, second), (sd, other) = order[name].iloc[:2], order[f"{name}_sd"].iloc[:2]
            if abs(first - second) > (sd**2 + other**2) ** 0.5:  # False if a sd is missing
                winners.add(order.index[0])
    return winners


def pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """All pairs of cells that are ranked against each other (`kinds_of`): the differences by every score, seed by seed.

    Columns: ``score``, the common labels (`kinds_of`), ``better``, ``worse``, ``ahead`` and ``sd`` (mean and standard
    deviation of the difference over seeds), ``seeds``, whether it is `clear`, and how many seeds would settle it
    (`seeds_needed`; missing if it is None). Needs more than one seed.
    """
    kinds = kinds_of(frame)
    found = []
    for score in scores(frame):
        for values, part in frame.groupby(kinds, sort=False) if kinds else [((), frame)]:
            table = sign(score) * by_seed(part.dropna(subset=[score]), score, kinds)
            for better, worse in combinations(table.mean().sort_values().index, 2):
                gain = (table[worse] - table[better]).dropna()
                if len(gain) > 1:
                    told = {"score": score, **dict(zip(kinds, values, strict=True)), "better": better, "worse": worse}
                    numbers = {"ahead": gain.mean(), "sd": gain.std(), "seeds": len(gain), "clear": clear(gain)}
                    found.append(told | numbers | {"seeds_needed": seeds_needed(gain)})
    return pd.DataFrame(found).astype({"seeds_needed": "Int64"} if found else {})


def ahead_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The best cell of each kind against every other one by the first score, as text: rows of `pairs`, for a reader."""
    every = pairs(frame) if frame.seed.nunique() > 1 else pd.DataFrame()
    if every.empty:
        return every
    kinds = kinds_of(frame)
    first = every[every.score == every.score.iloc[0]]
    best = first.groupby(kinds).better.transform("first") if kinds else first.better.iloc[0]
    shown = first[first.better == best]
    digits = SCORES[shown.score.iloc[0]][0]
    numbers = {
        "ahead by": [_spread(mean, sd, digits) for mean, sd in zip(shown.ahead, shown.sd, strict=True)],
        "seeds": shown.seeds.astype(str),
        "would settle it": shown.seeds_needed.astype(object).fillna(f"over {MOST_SEEDS:,}").astype(str),
    }
    return shown[[*kinds, "better", "worse"]].assign(**numbers)


def for_a_reader(frame: pd.DataFrame, bold: Callable[[str], str]) -> pd.DataFrame:
    """`table` as text: ``12.34 ± 0.56``, ``missing``, and the best in bold; or `orders.table`."""
    shown = table(frame)
    if orders.is_search(frame):
        return orders.table(frame, bold)
    text = shown[[c for c in shown if c in (*labels(frame), *BESIDE)]].copy()
    if {"path", "alpha"} <= {*text}:
        where = [path_label(*row) for row in shown[["path", "alpha"]].itertuples(index=False)]
        text = text.drop(columns="alpha").assign(path=where)[[c for c in text if c not in ("path", "alpha")] + ["path"]]
    text = text.map(label_text)
    if not (shown.seeds == frame.seed.nunique()).all():
        text["seeds"] = shown.seeds.astype(str)
    for name in scores(frame):
        digits, winners = SCORES[name][0], best(shown, name, kinds_of(frame))
        text[header(name, frame)] = [
            "missing" if pd.isna(m) else (bold if i in winners else str)(_spread(m, s, digits))
            for i, m, s in zip(shown.index, shown[name], shown[f"{name}_sd"], strict=True)
        ]
    for name in (c for c in map(str, shown) if c.startswith("published")):
        text[name] = ["–" if pd.isna(v) else f"{v:.2f}" for v in shown[name]]
    return text


def _spread(mean: float, sd: float, digits: int) -> str:
    return f"{mean:.{digits}f}" + ("" if pd.isna(sd) else f" ± {sd:.{digits}f}")


def notes(frame: pd.DataFrame) -> str:
    """The notes below a table: protocol, spread, and the meaning of bold."""
    if orders.is_search(frame):
        return f"{caption(frame)} Bold: {orders.NOTE}"
    seeds = frame.seed.nunique()
    spread = f"± is the standard deviation over {seeds} training seeds" if seeds > 1 else "One training seed, no spread"
    return f"{caption(frame)} {spread}; class is class accuracy. {bold(frame)}"


def bold(frame: pd.DataFrame) -> str:
    """What bold means."""
    return BOLD.replace("guided and labelled alike", ALIKE) if of_orders(frame) else BOLD


def published(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Published tables to show below, each with its source; of other data, so only trends can be compared."""
    return [(p.where, p.rows) for p in tables_of(frame.attrs["sweep"])]


def own(frame: pd.DataFrame) -> str:
    """The table as Markdown, with its floor and its protocol."""
    text = for_a_reader(frame, lambda s: f"**{s}**").to_markdown(index=False, disable_numparse=True)
    return "\n\n".join([text, floor(frame), notes(frame)])


def markdown(frame: pd.DataFrame) -> str:
    """The table as Markdown, with published tables below."""
    parts = [own(frame)]
    for where, rows in published(frame):
        parts += [
            f"Published ({where}), not comparable by value:",
            rows.astype(object).fillna("–").to_markdown(index=False),
        ]
    return "\n\n".join(parts)


def latex(frame: pd.DataFrame) -> str:
    """The table as LaTeX (booktabs), with its protocol as caption."""
    text = for_a_reader(frame, lambda s: f"\\textbf{{{s}}}")
    text = text.rename(columns=lambda c: str(c).translate(TEX)).map(lambda v: str(v).translate(TEX))
    told = notes(frame).replace("√(sd₁² + sd₂²)", r"$\sqrt{sd_1^2 + sd_2^2}$").translate(TEX)
    told = told.replace(r"sd\_1", "sd_1").replace(r"sd\_2", "sd_2")
    return text.to_latex(
        index=False, escape=False, caption=f"{floor(frame).translate(TEX)} {told}", label=f"tab:{frame.attrs['sweep']}"
    )


def _with_identities(frame: pd.DataFrame) -> pd.DataFrame:
    """`table`, and at its end the identities of the ``training`` and the ``evaluation`` of each seed."""
    shown = table(frame)
    found = identities(frame)
    return shown.assign(**{kind: [" ".join(ids[kind]) for ids in found] for kind in found[0]})


def write(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes ``table.md``, ``table.tex``, ``table.csv`` and, with several seeds, ``pairs.csv``; returns the files."""
    made = {
        "table.md": markdown(frame) + "\n",
        "table.tex": latex(frame),
        "table.csv": _with_identities(frame).to_csv(index=False),
    }
    if frame.seed.nunique() > 1:
        made["pairs.csv"] = pairs(frame).to_csv(index=False, float_format="%.4g")
    for name, text in made.items():
        replace(folder / name, text)
    return [folder / name for name in made]


def main(argv: list[str]) -> None:
    frame, folder, _ = source(argv, __doc__)
    print(markdown(frame))
    print("from", frame.attrs["source"], "→", *write(frame, folder))


if __name__ == "__main__":
    run_command(main)
