"""`python -m analysis.tables NAME [runs folder]`: a sweep's table as markdown, and as CSV beside it."""

import json
from pathlib import Path

import pandas as pd

from analysis.results import RESULTS, load
from lf.door import door
from lf.errors import UserError
from lf.files import replace

LABELS = ["model", "latent", "path", "alpha"]
SCORES = {"fd": 2, "agreement": 2, "class_accuracy": 2}  # decimals


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every score, one row a cell; missing stays missing.

    Beside a table of the paper's own data the published numbers stand in a column of their own.
    """
    labels = [name for name in LABELS if name in frame and frame[name].notna().any()]
    scores = [name for name in SCORES if name in frame]
    groups = frame.groupby(labels, dropna=False, sort=False)
    mean, sd = groups[scores].mean(), groups[scores].std()
    out = pd.DataFrame({name: mean[name] for name in scores} | {f"{name}_sd": sd[name] for name in scores})
    out.insert(0, "seeds", groups[scores[0]].count())
    if "imagenet" in str(frame.protocol.dropna().iloc[0] if frame.protocol.notna().any() else ""):
        published = pd.read_csv(RESULTS / "paper" / "table01_order.csv").set_index(["latent", "alpha"]).fid10k_unguided
        out["paper FID-10K"] = [published.get((row[1], row[3])) for row in out.index]
    return out.reset_index()


def path_label(path: str, alpha: float) -> str:
    """``α = 1/4``, ``α = 16``, or the path's name where it has no alpha."""
    return path if pd.isna(alpha) else f"α = 1/{1 / alpha:g}" if alpha < 1 else f"α = {alpha:g}"


def markdown(frame: pd.DataFrame) -> str:
    """The table for a reader, with its protocol and the real-real floor."""
    if frame.protocol.isna().all():
        raise UserError(f"{frame.attrs['sweep']}: no cell is done yet")
    shown, protocol = table(frame), json.loads(frame.protocol.dropna().iloc[0])
    text = shown.drop(columns=[c for c in shown if c in (*SCORES, *(f"{s}_sd" for s in SCORES), "alpha", "path")])
    where = [path_label(*row) for row in shown.reindex(columns=["path", "alpha"]).itertuples(index=False)]
    text.insert(len([c for c in text if c in LABELS]), "path", where)
    for name, digits in SCORES.items():
        if name in shown:
            header = (
                f"{protocol['score']} ↓" if name == "fd" else f"{name.replace('_accuracy', '').replace('_', ' ')} ↑"
            )
            text[header] = [
                "missing" if pd.isna(m) else f"{m:.{digits}f}" + ("" if pd.isna(s) else f" ± {s:.{digits}f}")
                for m, s in zip(shown[name], shown[f"{name}_sd"], strict=True)
            ]
    seeds = frame.seed.nunique()
    if (shown.seeds == seeds).all():
        text = text.drop(columns="seeds")
    floor = frame[[f"real_{name}" for name in SCORES if f"real_{name}" in frame]].dropna().head(1)
    held_out = f"{frame.real_n.max():,.0f}" if "real_n" in frame else f"{protocol['n']:,}"
    real = ", ".join(
        f"{str(name).removeprefix('real_')} {value.iloc[0]:.3g}" for name, value in floor.items() if len(floor)
    )
    judges = "; ".join(
        f"{name} {how['weights']} against {how['reference_n']:,} ({how['reference']})"
        for name, how in protocol["judging"].items()
    )
    return "\n".join(
        [
            text.to_markdown(index=False, disable_numparse=True),
            "",
            f"{held_out} real images against the reference (the floor): {real.replace('fd', protocol['score'])}."
            if real
            else "No real images were held out, so there is no floor.",
            "",
            f"Protocol: {protocol['n']:,} images, {judges}, "
            f"{protocol['solver']}, {protocol['steps']} steps, guidance {protocol['guidance']['kind']}, "
            f"{protocol['weights']} weights, sampling seed {protocol['seed']}. "
            f"± is the standard deviation over {seeds} training seeds; class is class accuracy.",
        ]
    )


def write(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """``table.md`` and ``table.csv`` in ``folder``."""
    replace(folder / "table.md", markdown(frame) + "\n")
    replace(folder / "table.csv", table(frame).to_csv(index=False))
    return [folder / "table.md", folder / "table.csv"]


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
