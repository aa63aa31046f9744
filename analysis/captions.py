"""The words of a report: what is compared and by what, what to see in each figure, and the rules of its table."""

import pandas as pd

from analysis import orders
from analysis.protocol import caption, data_of, floor
from analysis.scores import SCORES, header, kinds_of, labels, scores
from analysis.tables import bold

STAR = "★ "
SETTLED = (
    "A number of seeds would settle a difference if a paired t-test (two-sided, 5 %) then finds it with a probability "
    "of 80 %, at the mean and the spread seen. Of few seeds the spread is itself known only roughly."
)
MEANING = {
    "fid": "the Fréchet distance between generated and real images, in Inception features",
    "inception_score": "how clearly, and how differently, Inception classifies the images",
    "agreement": "the share of images whose two objects agree in everything",
    "given_agreement": "the share of images that a judge reads like the real image which gave the stream",
    "class_accuracy": "the share of images whose class a judge reads as asked",
    "kid": "the kernel distance between generated and real images, in Inception features",
    "fd_clip_vit_b_32": "the Fréchet distance in CLIP's features",
    "precision": "the share of generated images that lie among the real ones",
    "recall": "the share of real images that lie among the generated ones",
    "psnr": "how close the tokenizer's reconstructions are to their images",
    "rfd": "the Fréchet distance between reconstructed and real images",
    "rfid": "the Fréchet distance between reconstructed and real images, in Inception features",
}
SEE = {
    "alpha": "{score} of one network that was sampled along many paths. To the right the latent is ahead of the "
    "pixels, to the left the pixels are. A line that slopes says that the order matters for this latent, a flat one "
    "that it does not. The horizontal lines are networks trained for one order alone.",
    "scores": "{score} of every cell.",
    "specialisation": "Left: {score} of every order against the share of the steps; at the right end, trained from "
    "scratch. Middle: the short trainings against those from scratch; orders that rise together are ranked alike, on "
    "the dotted diagonal they score alike. Hollow: the trunk, trained on as it was, along the same paths. Right: "
    "Kendall's τ between the two rankings, and the regret, the score from scratch of the order that the short "
    "trainings pick, minus the best one's. The dotted lines are what was asked beforehand: a τ above and a regret "
    "below.",
    "reconstruction": "What the tokenizer keeps of an image against {score} of what is generated. If a better "
    "reconstruction meant a better image, the points would lie on one line.",
    "paths": "The times of two streams along each path, from noise (lower left) to clean (upper right). A path far "
    "below the diagonal finishes the stream on the horizontal axis first, one far above it the other.",
    "densities": "Where each schedule trains: a point is the pair of times of one training image, the histograms show "
    "either time alone, and the line is the schedule's own path. A path through empty ground is sampled where nothing "
    "was trained.",
    "snr": "Signal-to-noise ratio of each stream on the way from noise to image. The stream whose curve rises first is "
    "made first; curves that lie on each other are made together.",
    "training": "Training loss. A curve that still falls at its end would gain from more steps. Heights are not "
    "comparable between schedules, which weigh times differently.",
    "samples": "Each row is a cell, each column has the same noise and the same class. What changes down a column is "
    "what the cell changes.",
    "search": "{score} of every trial, in the order of the search. The step line is the best so far, the dotted line "
    "is no guidance. A step line that has been flat for long says that more trials would find little.",
    "guidance": "{score} over the scales of guidance; the star is the best trial. Many dots as good as the star, far "
    "apart, say that the scale matters little.",
    "tried": "The paths of all orders that were tried, by {score} after the shortest training, which all of them have "
    "(left), and by the length that halving gave them (right). The wide line is the best order. Dark lines that lie "
    "close together say that their neighbourhood is good, not one path by chance.",
    "halving": "{score} of every order against the length of its training from the trunk. A line that stops is an "
    "order that halving left. Open signs are the best order with fresh noise and with a second seed: if they lie far "
    "from its line, its lead may be chance. Lines that cross say that a shorter training would have misled.",
    "cross_psnr": "Left: how well each stream is predicted over all pairs of times. Right: how much of that the other "
    "side tells, against noise in its place. Contour lines along one axis mean that the other time does not matter.",
    "difficulty": "The share of the streams that the network cannot predict, over all pairs of times, and the sweep's "
    "paths across it. Bright is hard, dark is easy: a path is easier the sooner it reaches dark ground.",
    "structure": "How much of the edges a prediction keeps at the same PSNR, if it is told by the latents alone or by "
    "noisy pixels alone. The higher line keeps more structure.",
    "film": "One trajectory from noise (left) to image (right), every stream a row; latents are shown by their three "
    "principal axes as colours. The stream that is clear further left is made first.",
}


def _better(score: str) -> str:
    return "lower is better" if SCORES[score][1] == "↓" else "higher is better"


def meaning(score: str, frame: pd.DataFrame) -> str:
    """What a score measures, as a noun phrase."""
    if score == "fd":
        kind = data_of(frame).partition(":")[0]
        return f"the Fréchet distance between generated and real images, in the features of a judge of {kind}"
    return MEANING[score]


def varied(frame: pd.DataFrame) -> list[str]:
    """The labels in which cells differ, as in tables: α stands in the column of the path."""
    names = [name for name in labels(frame) if frame[name].nunique(dropna=False) > 1]
    return [name for name in names if name != "trial" and (name != "alpha" or "path" not in names)]


def compared(frame: pd.DataFrame) -> str:
    """What is compared, and by what measures, as sentences."""
    found, names = _scores(frame), varied(frame)
    cells = len(frame.groupby(labels(frame), dropna=False)) if labels(frame) else 1
    seeds = frame.seed.nunique()
    over = f"over {seeds} training seeds" if seeds > 1 else f"with one training seed ({frame.seed.iloc[0]})"
    kind = "trials" if "trial" in labels(frame) else "cells"
    what = f"{cells} {kind} that differ in {_listed(names)}, {over}" if names else f"One cell, {over}"
    if orders.is_search(frame):
        what = f"{frame.order.nunique()} orders, each trained from one trunk for up to {frame.share.nunique()} lengths"
    if not found:
        return f"{what}; nothing is scored."
    said = [f"{header(name, frame)[:-2]}, {meaning(name, frame)} ({_better(name)})" for name in found]
    more = f" Also shown: {'; '.join(said[1:])}." if said[1:] else ""
    return f"{what}, by {said[0]}.{more}"


def _scores(frame: pd.DataFrame) -> list[str]:
    """The scores; that of a search for an order which it went by is the first."""
    first = orders.objective(frame) if scores(frame) and orders.is_search(frame) else ""
    return sorted(scores(frame), key=lambda name: name != first)


def to_see(figure: str, frame: pd.DataFrame) -> str:
    """The caption of a figure: what it shows, and what to look for."""
    found = _scores(frame)
    text = SEE[figure].format(score=f"{header(found[0], frame)[:-2]} ({_better(found[0])})" if found else "The score")
    if figure in ("alpha", "scores", "reconstruction", "specialisation"):
        seeds = frame.seed.nunique()
        spread = f" Bars are ± one standard deviation over {seeds} training seeds: what lies within may be chance."
        text += spread if seeds > 1 else " One training seed does not tell how much of a difference is chance."
    if figure in ("training", "samples") and frame.seed.nunique() > 1:
        text += f" Seed {frame.seed.min()} alone."
    return text


def rules(frame: pd.DataFrame, table: pd.DataFrame) -> str:
    """The notes below a table as shown: its floor and protocol, and what its signs mean, if it has them."""
    seeds = frame.seed.nunique()
    said = [floor(frame), caption(frame)]
    if orders.is_search(frame):
        return " ".join([*said, f"{STAR}: {orders.NOTE}".replace(" :", ":")])
    said += [f"± is the standard deviation over {seeds} training seeds."] if seeds > 1 else []
    if table.map(lambda text: str(text).startswith(STAR)).to_numpy().any():
        told = bold(frame).replace("Bold:", "★:")
        said += [told if kinds_of(frame) else told.replace(" of those guided and labelled alike", "")]
    return " ".join(said)


def _listed(names: list[str]) -> str:
    """Names as code: ``a``; ``a and b``; ``a, b and c``."""
    words = [f"`{name}`" for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
