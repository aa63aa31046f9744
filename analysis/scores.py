"""The scores of rows: which there are, which way each is better, and which row is best."""

from collections.abc import Hashable

import pandas as pd

SCORES = {  # decimals, which way is better, for a reader
    "fd": (2, "↓", ""), "fid": (2, "↓", "FID"), "inception_score": (1, "↑", "IS"), "agreement": (2, "↑", "agreement"),
    "class_accuracy": (2, "↑", "class"), "kid": (4, "↓", "KID"), "fd_clip_vit_b_32": (2, "↓", "FD-CLIP"),
    "precision": (2, "↑", "precision"), "recall": (2, "↑", "recall"), "psnr": (1, "↑", "PSNR (dB)"),
    "rfd": (2, "↓", "rFD"), "rfid": (2, "↓", "rFID"),
}  # fmt: skip


def sign(score: str) -> int:
    """1 where less of a score is better, else -1: ``sign(score) * score`` is small for the best."""
    return 1 if SCORES[score][1] == "↓" else -1


def scores(frame: pd.DataFrame) -> list[str]:
    """The columns that hold scores, in a table's order."""
    return [name for name in SCORES if name in frame and frame[name].notna().any()]


def best_row(frame: pd.DataFrame) -> Hashable:
    """The index of the row that is best by the first score."""
    score = scores(frame)[0]
    return (sign(score) * frame[score]).idxmin()


def best_so_far(frame: pd.DataFrame) -> pd.Series:
    """The best of the first score up to each row."""
    score = scores(frame)[0]
    return sign(score) * (sign(score) * frame[score]).cummin()
