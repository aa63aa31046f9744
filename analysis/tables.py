"""`python -m analysis.tables NAME [runs=FOLDER]`: writes a sweep's table as Markdown, CSV and LaTeX.

    python -m analysis.tables order_ablation
    python -m analysis.tables order_ablation runs=results  # committed rows

With several seeds it also writes ``pairs.csv``: all pairs of cells, compared seed by seed.
"""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pandas as pd

from analysis import orders
from analysis.folders import source
from analysis.protocol import caption, comparable, data_of, floor
from analysis.published import tables_of
from analysis.scores import (
    KINDS,
    SCORES,
    by_seed,
    clear,
    header,
    label_text,
    labels,
    path_label,
    scores,
    sign,
)
from lf.core.cli import run_command
from lf.core.errors import UserError
from lf.storage.atomic import replace

TEX = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "±": r"$\pm$", "↓": r"$\downarrow$",
                     "↑": r"$\uparrow$", "α": r"$\alpha$", "β": r"$\beta$", "·": r"$\cdot$"})  # fmt: skip
BOLD = (
    "Bold: the best of those guided and labelled alike, where it is ahead of the second by more than the spread, "
    "√(sd₁² + sd₂²) of the two over seeds."
)


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every score, one row per cell; missing values stay missing.

    Columns: the labels, ``seeds`` (the number of finished ones), each score and its ``_sd``, and the published numbers
    if the rows are of the same data.

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
    if any(name in data_of(frame) for name in ("imagenet", "in256")):
        for published in tables_of(frame.attrs["sweep"]):
            if published.on:
                out[f"published {published.file.partition('_')[0]}"] = published.beside(out)
    return out


def identities(frame: pd.DataFrame) -> list[dict[str, list[str]]]:
    """For each row of `table` the ids of its ``training`` and its ``evaluation``, one per seed."""
    cells = labels(frame)
    groups = frame.groupby(cells, dropna=False, sort=False) if cells else [((), frame)]
    return [{kind: list(part[f"{kind}_id"]) for kind in ("training", "evaluation")} for _, part in groups]


def best(shown: pd.DataFrame, name: str) -> set[object]:
    """Rows of `table` whose score is the best of its kind (`KINDS`), by more than the spread to the second.

    The spread is ``√(sd₁² + sd₂²)``, that of a difference; with only one seed there is none, and no row is best.
    """
    winners: set[object] = set()
    kinds = [c for c in KINDS if c in shown]
    for _, part in shown.groupby(kinds, dropna=False) if kinds else [((), shown)]:
        order = part.dropna(subset=[name]).sort_values(name, ascending=sign(name) > 0)
        if len(order) > 1:
            (first, second), (sd, other) = order[name].iloc[:2], order[f"{name}_sd"].iloc[:2]
            if abs(first - second) > (sd**2 + other**2) ** 0.5:  # False if a sd is missing
                winners.add(order.index[0])
    return winners


def pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """All pairs of cells with the same kind of guidance and labels, by every score: the differences, seed by seed.

    Columns: ``score``, the common labels (`KINDS`), ``better``, ``worse``, ``ahead`` and ``sd`` (mean and standard
    deviation of the difference over seeds), ``seeds``, and whether it is `clear`. Needs more than one seed.
    """
    kinds = [name for name in KINDS if name in labels(frame)]
    found = []
    for score in scores(frame):
        for values, part in frame.groupby(kinds, sort=False) if kinds else [((), frame)]:
            table = sign(score) * by_seed(part.dropna(subset=[score]), score, kinds)
            for better, worse in combinations(table.mean().sort_values().index, 2):
                gain = (table[worse] - table[better]).dropna()
                if len(gain) > 1:
                    told = {"score": score, **dict(zip(kinds, values, strict=True)), "better": better, "worse": worse}
                    numbers = {"ahead": gain.mean(), "sd": gain.std(), "seeds": len(gain), "clear": clear(gain)}
                    found.append(told | numbers)
    return pd.DataFrame(found)


def for_a_reader(frame: pd.DataFrame, bold: Callable[[str], str]) -> pd.DataFrame:
    """`table` as text: ``12.34 ± 0.56``, ``missing``, and the best in bold; or `orders.table`."""
    shown = table(frame)
    if orders.is_search(frame):
        return orders.table(frame, bold)
    text = shown[[c for c in shown if c in labels(frame) or c == "cell"]].copy()
    if {"path", "alpha"} <= {*text}:
        where = [path_label(*row) for row in shown[["path", "alpha"]].itertuples(index=False)]
        text = text.drop(columns="alpha").assign(path=where)[[c for c in text if c not in ("path", "alpha")] + ["path"]]
    text = text.map(label_text)
    if not (shown.seeds == frame.seed.nunique()).all():
        text["seeds"] = shown.seeds.astype(str)
    for name in scores(frame):
        digits, winners = SCORES[name][0], best(shown, name)
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
    return f"{caption(frame)} {spread}; class is class accuracy. {BOLD}"


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
    for kind in ("training", "evaluation"):
        shown[kind] = [" ".join(ids[kind]) for ids in identities(frame)]
    return shown


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
