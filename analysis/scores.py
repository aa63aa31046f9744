"""Labels and scores of rows: their columns, names, directions, and which differences are clear."""

from collections.abc import Collection, Hashable, Mapping
from typing import Any

import pandas as pd

from analysis.protocol import shared

SCORES = {  # decimals, better direction, name in tables
    "fd": (2, "↓", ""), "fid": (2, "↓", "FID"), "inception_score": (1, "↑", "IS"), "agreement": (2, "↑", "agreement"),
    "given_agreement": (2, "↑", "as given"), "class_accuracy": (2, "↑", "class"),
    "kid": (4, "↓", "KID"), "fd_clip_vit_b_32": (2, "↓", "FD-CLIP"),
    "precision": (2, "↑", "precision"), "recall": (2, "↑", "recall"), "psnr": (1, "↑", "PSNR (dB)"),
    "rfd": (2, "↓", "rFD"), "rfid": (2, "↓", "rFID"),
}  # fmt: skip
KINDS = ("guidance", "labels")  # only rows with the same values of these are ranked against each other
ORDERS = ("latent", "order", "training", "share")  # labels of the question `specialisation`


def sign(score: str) -> int:
    """1 if lower scores are better, else -1: ``sign(score) * score`` is smallest for the best."""
    return 1 if SCORES[score][1] == "↓" else -1


def scores(frame: pd.DataFrame) -> list[str]:
    """The columns with scores, in the order of tables."""
    return [name for name in SCORES if name in frame and frame[name].notna().any()]


def best_row(frame: pd.DataFrame) -> Hashable:
    """The index of the row with the best first score."""
    score = scores(frame)[0]
    return (sign(score) * frame[score]).idxmin()


def best_so_far(frame: pd.DataFrame) -> pd.Series:
    """The best first score up to each row."""
    score = scores(frame)[0]
    return sign(score) * (sign(score) * frame[score]).cummin()


def labels(frame: pd.DataFrame) -> list[str]:
    """The columns with labels, without the seed."""
    return [name for name in frame.attrs["labels"] if name != "seed" and frame[name].notna().any()]


def of_orders(frame: pd.DataFrame) -> bool:
    """Whether the rows are those of the question `specialisation`, or of one's own question with its labels."""
    return {*ORDERS} <= {*labels(frame)}


def kinds_of(frame: pd.DataFrame) -> list[str]:
    """The labels of which rows must have the same values to be ranked against each other."""
    names = [*(name for name in ORDERS if name != "order"), *KINDS] if of_orders(frame) else KINDS
    return [name for name in names if name in labels(frame)]


def over_seeds(values: pd.Series) -> str:
    """Mean and standard deviation over seeds, as text: ``7.73 ± 0.10``."""
    return f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else " (one seed)")


def tokenizers(frame: pd.DataFrame) -> pd.DataFrame:
    """The unguided rows of cells with scores of their tokenizer; none if there are fewer than three tokenizers."""
    if "psnr" not in frame:
        return frame[:0]
    plain = frame[frame.guidance == "none"] if "guidance" in frame else frame
    plain = plain.dropna(subset=["psnr"])
    return plain if plain[plain.seed == plain.seed.min()].training_id.nunique() > 2 else plain[:0]


def header(name: str, frame: pd.DataFrame) -> str:
    """A score's name in tables: ``FD-shapes ↓``."""
    _, better, called = SCORES[name]
    return f"{called or shared(frame)['score']} {better}"


def by_seed(frame: pd.DataFrame, score: str, hidden: Collection[str] = ()) -> pd.DataFrame:
    """A score with one row per seed and one column per cell (`named`)."""
    return frame.assign(cell=named(frame, hidden)).pivot_table(index="seed", columns="cell", values=score, sort=False)


def clear(gain: pd.Series) -> bool:
    """Whether a difference exceeds its spread: same sign in every seed, and mean larger than standard deviation."""
    return len(gain) > 1 and bool((gain > 0).all() or (gain < 0).all()) and abs(gain.mean()) > gain.std()


def path_label(path: str, alpha: float) -> str:
    """``α = 1/4``, ``α = 16``, or the path's name if it has no alpha."""
    return path if pd.isna(alpha) else f"α = 1/{1 / alpha:g}" if alpha < 1 else f"α = {alpha:g}"


def label_text(value: Any) -> str:
    """A label's value as text: ``0.25``, ``0``, ``aligned``, and ``–`` if a cell has none."""
    return "–" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)


def named(frame: pd.DataFrame, hidden: Collection[str] = ()) -> pd.Series:
    """The title of each row's cell, without the labels ``hidden``: ``latent tiny, α = 4``; of a search, its trial."""
    names = [name for name in labels(frame) if name not in hidden]
    names = ["trial"] if "trial" in names else names
    paths = {"path", "alpha"} <= {*names}

    def told(row: Mapping[Any, Any]) -> str:
        plain = [name for name in names if not (pd.isna(row[name]) or (paths and name in ("path", "alpha")))]
        words = [f"{name} {label_text(row[name])}" for name in plain]
        where = [path_label(row["path"], row["alpha"])] if paths else []
        return ", ".join(words + where) or frame.attrs["sweep"]

    return pd.Series([told(row) for row in frame.to_dict("records")], frame.index, dtype=str)
