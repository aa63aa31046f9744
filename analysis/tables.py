"""`python -m analysis.tables NAME [runs folder]`: a sweep's table as markdown, and as CSV beside it."""

import json
from pathlib import Path

import pandas as pd

from analysis.results import RESULTS, load
from lf.command import door
from lf.errors import UserError
from lf.files import replace

LABELS = ["model", "latent", "path", "alpha"]
SCORES = {"fd": 2, "agreement": 3, "class_accuracy": 3}  # decimals


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


def markdown(frame: pd.DataFrame) -> str:
    """The table for a reader, with its protocol and the real-real floor."""
    shown, text = table(frame), pd.DataFrame()
    protocol = json.loads(frame.protocol.dropna().iloc[0])
    for name in shown.columns:
        if name in SCORES:
            header = protocol["score"] + " ↓" if name == "fd" else name.replace("_", " ") + " ↑"
            digits = SCORES[name]
            text[header] = [
                "missing" if pd.isna(m) else f"{m:.{digits}f}" + ("" if pd.isna(s) else f" ± {s:.{digits}f}")
                for m, s in zip(shown[name], shown[f"{name}_sd"], strict=True)
            ]
        elif name == "alpha":
            text[name] = ["–" if pd.isna(a) else f"1/{1 / a:g}" if a < 1 else f"{a:g}" for a in shown[name]]
        elif not name.endswith("_sd"):
            text[name] = shown[name]
    floor = frame.filter(like="real_").dropna().head(1).squeeze()
    lines = [text.to_markdown(index=False, disable_numparse=True), ""]
    lines.append("real images against the reference: " + ", ".join(f"{k.removeprefix('real_')} {v:.3g}" for k, v in floor.items()))
    lines.append(
        f"Protocol: {protocol['n']:,} images, {protocol['reference_n']:,} reference images ({protocol['reference']}), "
        f"{protocol['solver']} {protocol['steps']} steps, guidance {protocol['guidance']['kind']}, {protocol['weights']} weights, "
        f"sampling seed {protocol['seed']}, judge {protocol['judge_digest']}; ± is the sd over training seeds."
    )
    return "\n".join(lines)


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
    committed = frame.attrs["source"].startswith("results")
    return frame, RESULTS / argv[0] if committed else runs / "reports" / argv[0], None if committed else store


def main(argv: list[str]) -> None:
    frame, folder, _ = source(argv, "tables")
    print(markdown(frame))
    print("from", frame.attrs["source"], "→", *write(frame, folder))


if __name__ == "__main__":
    door(main)
