"""Labels and scores of rows: their columns, names, directions, and which differences are clear."""

from collections.abc import Collection, Hashable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import nctdtrinc, stdtrit

from analysis.protocol import shared

SCORES = {  # decimals, better direction, name in tables
    "fd": (2, "↓", ""), "fid": (2, "↓", "FID"), "inception_score": (1, "↑", "IS"), "agreement": (2, "↑", "agreement"),
    "given_agreement": (2, "↑", "as given"), "class_accuracy": (2, "↑", "class"),
    "kid": (4, "↓", "KID"), "fd_clip_vit_b_32": (2, "↓", "FD-CLIP"),
    "precision": (2, "↑", "precision"), "recall": (2, "↑", "recall"), "psnr": (1, "↑", "PSNR (dB)"),
    "rfd": (2, "↓", "rFD"), "rfid": (2, "↓", "rFID"),
}  # fmt: skip
KINDS = ("guidance", "labels")  # only rows with the same values of these are ranked against each other
LEVEL, POWER = 0.05, 0.8  # of the test that `seeds_needed` is about
MOST_SEEDS = 1000  # more are not counted
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


def seeds_needed(gain: pd.Series) -> int | None:
    """How many seeds would settle a difference, if its mean and its spread are those seen.

    That is the smallest n at which a paired t-test of these differences (two-sided, 5 %) finds it with a probability
    of 80 %: P(T > t*) ≥ 0.8, where t* is the 97.5th percentile of t with n - 1 degrees of freedom, and T is noncentral
    t with as many and the noncentrality √n · |mean| / standard deviation (Cohen, Statistical Power Analysis for the
    Behavioral Sciences, 1988, ch. 2). The chance to find it with the wrong sign, below 1e-5 there, is left out.

    Args:
        gain: the differences, one per seed.

    Returns:
        At least 2; None if it is unknown (fewer than two seeds), or more than `MOST_SEEDS`, or if the mean is 0.
    """
    if len(gain) < 2 or gain.mean() == 0:
        return None
    effect = abs(gain.mean()) / gain.std() if gain.std() > 0 else np.inf
    found = 2 + int((_effects() > effect).sum())
    return found if found <= MOST_SEEDS else None


@cache
def _effects() -> np.ndarray:
    """The smallest |mean| / standard deviation that 2, 3, ... `MOST_SEEDS` seeds settle; it falls."""
    n = np.arange(2.0, MOST_SEEDS + 1)
    return nctdtrinc(n - 1, 1 - POWER, stdtrit(n - 1, 1 - LEVEL / 2)) / np.sqrt(n)


def too_few(gain: pd.Series) -> bool:
    """Whether a difference rests on fewer seeds than would settle it (`seeds_needed`)."""
    needed = seeds_needed(gain)
    return needed is None or needed > len(gain)


def rests_on(gain: pd.Series) -> str:
    """On how many seeds a difference rests, and how many would settle it: ``3 seeds, too few; 11 would settle it``."""
    if len(gain) < 2:
        return "one seed: how many would settle it is unknown"
    few = ", too few" if too_few(gain) else ""
    return f"{len(gain)} seeds{few}; {seeds_needed(gain) or f'not even {MOST_SEEDS:,}'} would settle it"


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
