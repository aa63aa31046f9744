"""`python -m analysis.findings order_ablation [runs folder]`: what the order ablation says, each with its spread."""

import pandas as pd

from analysis.tables import path_label, source
from lf.door import door


def findings(frame: pd.DataFrame) -> list[str]:
    """One line a finding of `sweeps.order_ablation`; each says by its own numbers whether it holds.

    A path is chosen by its mean over seeds, so that no seed picks its own best.
    """
    where = [path_label(path, alpha) for path, alpha in zip(frame.path, frame.alpha, strict=True)]
    cells = frame.assign(where=where).dropna(subset=["fd"])
    lines = []
    trained, jit = (cells[cells.model == model].set_index("seed").fd for model in ("cascaded", "pixel_only"))
    if len(trained) and len(jit):
        ratio = (trained / jit).dropna()
        lines.append(
            f"Trained for its order (cascaded) against pixels alone (JiT), equal budget: {_spread(trained)} against "
            f"{_spread(jit)}, a ratio of {_spread(ratio)}; {'' if ratio.max() < 1 else 'not '}better in every seed."
        )
    independent = cells[cells.model == "independent"]
    lines += [_orders(latent, part) for latent, part in independent.groupby("latent", sort=False)]
    return lines


def _orders(latent: object, cells: pd.DataFrame) -> str:
    """One latent: its best latent-first path against its best pixels-first path, and the spread over alpha."""
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
    gain = fd[other] - fd[best]
    clear = "" if gain.mean() > gain.std() and gain.min() > 0 else "not "
    text += (
        f"; best latent-first path ({best}) {_spread(fd[best])}, best pixels-first ({other}) {_spread(fd[other])}: "
        f"latent-first gains {_spread(gain)}" + (f", {clear}more than the spread" if len(gain) > 1 else "")
    )
    if "agreement" in cells:
        agree = cells.groupby("where").agreement.mean()
        text += f"; agreement {agree[best]:.3f} against {agree[other]:.3f}, {agree[best] / agree[other]:.2f} times"
    return text + "."


def _best(cells: pd.DataFrame) -> str:
    return str(cells.groupby("where").fd.mean().idxmin())


def _spread(values: pd.Series) -> str:
    return f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else " (one seed)")


def main(argv: list[str]) -> None:
    frame, _, _ = source(argv, "findings")
    print(*(f"- {line}" for line in findings(frame)), sep="\n")


if __name__ == "__main__":
    door(main)
