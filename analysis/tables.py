"""`python -m analysis.tables NAME [runs folder]`: a sweep's table as markdown, and as CSV and LaTeX beside it.

Of several seeds also ``pairs.csv``: every two cells against each other, seed by seed.
"""

from collections.abc import Callable, Collection, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.protocol import caption, comparable, floor, shared
from analysis.published import PUBLISHED
from analysis.results import RESULTS, load
from analysis.scores import SCORES, scores, sign
from lf.door import door
from lf.errors import UserError
from lf.files import replace

TEX = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "±": r"$\pm$", "↓": r"$\downarrow$",
                     "↑": r"$\uparrow$", "α": r"$\alpha$", "β": r"$\beta$", "·": r"$\cdot$"})  # fmt: skip
KINDS = ("guidance", "labels")  # only what is alike in these competes
BOLD = (
    "Bold: the best of those guided and labelled alike, where it is ahead of the second by more than the spread, "
    "√(sd₁² + sd₂²) of the two over seeds."
)


def labels(frame: pd.DataFrame) -> list[str]:
    """The columns that tell cells apart, the seed left out."""
    return [name for name in frame.attrs["labels"] if name != "seed" and frame[name].notna().any()]


def tokenizers(frame: pd.DataFrame) -> pd.DataFrame:
    """The unguided rows of cells whose tokenizer was measured; none where fewer than three could be compared."""
    if "psnr" not in frame:
        return frame[:0]
    plain = frame[frame.guidance == "none"] if "guidance" in frame else frame
    plain = plain.dropna(subset=["psnr"])
    return plain if plain[plain.seed == plain.seed.min()].training_id.nunique() > 2 else plain[:0]


def header(name: str, frame: pd.DataFrame) -> str:
    """A score for a reader: ``FD-shapes ↓``."""
    _, better, called = SCORES[name]
    return f"{called or shared(frame)['score']} {better}"


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every score, one row a cell; missing stays missing.

    Columns: the labels, ``seeds`` (how many are done), each score and its ``_sd``, and the published numbers where the
    rows are of the same data. Raises `UserError` for rows that cannot be compared, and where there are none.
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
    if "imagenet" in shared(frame)["data"] or "in256" in shared(frame)["data"]:
        for published in PUBLISHED.get(frame.attrs["sweep"], ()):
            if published.on:
                out[f"published {published.file.partition('_')[0]}"] = published.beside(out)
    return out


def best(shown: pd.DataFrame, name: str) -> set[object]:
    """Rows of `table` whose score is the best of its kind (`KINDS`), ahead of the second by more than the spread.

    The spread is ``√(sd₁² + sd₂²)``, that of a difference; with one seed there is none, and nothing is best.
    """
    winners: set[object] = set()
    kinds = [c for c in KINDS if c in shown]
    for _, part in shown.groupby(kinds, dropna=False) if kinds else [((), shown)]:
        order = part.dropna(subset=[name]).sort_values(name, ascending=sign(name) > 0)
        if len(order) > 1:
            (first, second), (sd, other) = order[name].iloc[:2], order[f"{name}_sd"].iloc[:2]
            if abs(first - second) > (sd**2 + other**2) ** 0.5:  # never of a missing sd
                winners.add(order.index[0])
    return winners


def by_seed(frame: pd.DataFrame, score: str, hidden: Collection[str] = ()) -> pd.DataFrame:
    """A score with a row a seed and a column a cell (`named`)."""
    return frame.assign(cell=named(frame, hidden)).pivot_table(index="seed", columns="cell", values=score, sort=False)


def clear(gain: pd.Series) -> bool:
    """Whether a difference is more than its spread: one sign in every seed, and a mean larger than its deviation."""
    return len(gain) > 1 and bool((gain > 0).all() or (gain < 0).all()) and abs(gain.mean()) > gain.std()


def pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """Every two cells guided and labelled alike, by every score: how far the better is ahead, seed by seed.

    Columns: ``score``, the labels that both share (`KINDS`), ``better``, ``worse``, ``ahead`` and ``sd``, mean and
    standard deviation of the difference over ``seeds``, and whether it is `clear`. Needs more than one seed.
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


def path_label(path: str, alpha: float) -> str:
    """``α = 1/4``, ``α = 16``, or the path's name where it has no alpha."""
    return path if pd.isna(alpha) else f"α = 1/{1 / alpha:g}" if alpha < 1 else f"α = {alpha:g}"


def label_text(value: Any) -> str:
    """A label's value: ``0.25``, ``0``, ``aligned``, and ``–`` where a cell has none."""
    return "–" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)


def named(frame: pd.DataFrame, hidden: Collection[str] = ()) -> pd.Series:
    """Each row's cell for a reader, without the labels ``hidden``: ``latent tiny, α = 4``; of a search its trial."""
    names = [name for name in labels(frame) if name not in hidden]
    names = ["trial"] if "trial" in names else names
    paths = {"path", "alpha"} <= {*names}

    def told(row: Mapping[Any, Any]) -> str:
        plain = [name for name in names if not (pd.isna(row[name]) or (paths and name in ("path", "alpha")))]
        words = [f"{name} {label_text(row[name])}" for name in plain]
        where = [path_label(row["path"], row["alpha"])] if paths else []
        return ", ".join(words + where) or frame.attrs["sweep"]

    return pd.Series([told(row) for row in frame.to_dict("records")], frame.index, dtype=str)


def for_a_reader(frame: pd.DataFrame, bold: Callable[[str], str]) -> pd.DataFrame:
    """`table` as text: ``12.34 ± 0.56``, ``missing``, and the best in bold."""
    shown = table(frame)
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
    """What a table must say below itself: protocol, spread, and what bold means."""
    seeds = frame.seed.nunique()
    spread = f"± is the standard deviation over {seeds} training seeds" if seeds > 1 else "One training seed, no spread"
    return f"{caption(frame)} {spread}; class is class accuracy. {BOLD}"


def published(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Published tables that belong below, each with where it is from: of other data, so for the trend alone."""
    return [(p.where, p.rows) for p in PUBLISHED.get(frame.attrs["sweep"], ())]


def own(frame: pd.DataFrame) -> str:
    """The table for a reader, with its floor and its protocol."""
    text = for_a_reader(frame, lambda s: f"**{s}**").to_markdown(index=False, disable_numparse=True)
    return "\n\n".join([text, floor(frame), notes(frame)])


def markdown(frame: pd.DataFrame) -> str:
    """The same, with what was published below."""
    parts = [own(frame)]
    for where, rows in published(frame):
        parts += [
            f"Published ({where}), not comparable by value:",
            rows.astype(object).fillna("–").to_markdown(index=False),
        ]
    return "\n\n".join(parts)


def latex(frame: pd.DataFrame) -> str:
    """The table for a paper (booktabs), its protocol as caption."""
    text = for_a_reader(frame, lambda s: f"\\textbf{{{s}}}")
    text = text.rename(columns=lambda c: str(c).translate(TEX)).map(lambda v: str(v).translate(TEX))
    told = notes(frame).replace("√(sd₁² + sd₂²)", r"$\sqrt{sd_1^2 + sd_2^2}$").translate(TEX)
    told = told.replace(r"sd\_1", "sd_1").replace(r"sd\_2", "sd_2")
    return text.to_latex(
        index=False, escape=False, caption=f"{floor(frame).translate(TEX)} {told}", label=f"tab:{frame.attrs['sweep']}"
    )


def write(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """``table.md``, ``table.tex``, ``table.csv`` and, of several seeds, ``pairs.csv`` in ``folder``."""
    made = {
        "table.md": markdown(frame) + "\n",
        "table.tex": latex(frame),
        "table.csv": table(frame).to_csv(index=False),
    }
    if frame.seed.nunique() > 1:
        made["pairs.csv"] = pairs(frame).to_csv(index=False, float_format="%.4g")
    for name, text in made.items():
        replace(folder / name, text)
    return [folder / name for name in made]


def source(argv: list[str], what: str) -> tuple[pd.DataFrame, Path, Path | None]:
    """Frame, output folder and run store for ``NAME [runs folder]``."""
    if len(argv) not in (1, 2):
        raise UserError(f"usage: python -m analysis.{what} NAME [runs folder, or 'results' for the committed rows]")
    runs = Path(argv[1] if len(argv) > 1 else "runs")
    store = None if runs == Path("results") else runs
    frame = load(argv[0], store)
    if frame.protocol.isna().all():
        raise UserError(f"{argv[0]}: nothing is done yet in {frame.attrs['source']}")
    committed = frame.attrs["source"].startswith("results")
    return frame, RESULTS / argv[0] if committed else runs / "reports" / argv[0], None if committed else store


def main(argv: list[str]) -> None:
    frame, folder, _ = source(argv, "tables")
    print(markdown(frame))
    print("from", frame.attrs["source"], "→", *write(frame, folder))


if __name__ == "__main__":
    door(main)
