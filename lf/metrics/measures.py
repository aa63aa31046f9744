"""Scores from features, by torch-fidelity's functions and with its defaults."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lf.core.seeds import generator
from lf.metrics.reference import KEPT_FEATURES, Reference, Statistics
from lf.metrics.space import Space


def joined(parts: Sequence[dict[str, Tensor]], indices: Tensor | None = None) -> dict[str, Tensor]:
    """Concatenates features.

    Args:
        parts: outputs of `Space.features`.
        indices: ``(N,)``, the images' numbers, in the order of the parts. The rows are sorted by them, so that no score
            depends on which process computed what. By default the order stays the same.
    """
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return whole if indices is None else {name: value[indices.argsort()] for name, value in whole.items()}


def protocol(space: Space, reference: Reference, n: int) -> dict[str, Any]:
    """All settings by which ``n`` generated images are scored, as JSON; scores are comparable if these are equal.

    For each of ``fd``, ``kid``, ``prc`` and ``isc`` of the space it has the settings, or the reason why the score is
    missing. KID draws its subsets, and the Inception Score its splits, with torch-fidelity's ``seed``. Precision and
    recall depend on both numbers of features; above 10,000, a fixed random choice is used. For small N, KID's subsets
    are as large as the smaller number of features: it is still unbiased, but its ``kid_std`` is smaller.
    """
    import torch_fidelity  # imported here only: it takes a second and a half
    from torch_fidelity.defaults import DEFAULTS

    kept, splits, neighbors = len(reference.kept), DEFAULTS["isc_splits"], DEFAULTS["prc_neighborhood"]
    kid = {"subsets": DEFAULTS["kid_subsets"], "subset_size": min(DEFAULTS["kid_subset_size"], n, kept)}
    prc = {"neighborhood": neighbors, "generated": min(n, KEPT_FEATURES), "reference": min(kept, KEPT_FEATURES)}
    few = "missing: too few images" if kept else "missing: the reference holds no features"
    settings = {
        "fd": {},
        "kid": kid if min(n, kept) > 1 else few,
        "prc": prc if min(n, kept) > neighbors else few,
        "isc": {"splits": splits} if n >= splits else "missing: too few images",
    }
    return {
        "extractor": space.name,
        "weights": space.weights,
        "n": n,
        "reference": reference.digest,
        "reference_n": reference.n,
        "seed": DEFAULTS["rng_seed"],
        "torch_fidelity": torch_fidelity.__version__,
        **{measure: settings[measure] for measure in space.measures},
    }


def scores(space: Space, generated: dict[str, Tensor], reference: Reference) -> dict[str, float]:
    """Scores of generated images against a reference.

    Args:
        space: the feature space.
        generated: features of all N images, in the order of their numbers (see `joined`).
        reference: statistics in the same space.

    Returns:
        Named by `Space.column`: ``fd`` (``fid`` with Inception's features), Fréchet distance ≥ 0 (arXiv 1706.08500);
        ``kid`` and ``kid_std`` (arXiv 1801.01401), unbiased and so possibly below 0; ``precision`` and ``recall`` in
        [0, 1] (arXiv 1904.06991), in the features of this space (ADM: Inception's); ``inception_score`` ≥ 1 and
        ``inception_score_std`` (arXiv 1606.03498). Scores that `protocol` lists as missing are absent.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    features = generated["features"]
    how = protocol(space, reference, len(features))
    found: dict[str, float] = {}
    pair = [{"mu": of.mu.numpy(), "sigma": of.sigma.numpy()} for of in (Statistics.of(features), reference)]
    found["fd"] = fid_statistics_to_metric(*pair, verbose=False)[KEY_METRIC_FID]
    if isinstance(kid := how.get("kid"), dict):
        settings = {f"kid_{name}": value for name, value in kid.items()}
        given = kid_features_to_metric(features, reference.kept, rng_seed=how["seed"], verbose=False, **settings)
        found |= {"kid": given[KEY_METRIC_KID_MEAN], "kid_std": given[KEY_METRIC_KID_STD]}
    if isinstance(prc := how.get("prc"), dict):
        some = (_some(features, prc["generated"]), _some(reference.kept, prc["reference"]))
        given = prc_features_to_metric(*some, prc_neighborhood=prc["neighborhood"], verbose=False)
        found |= {"precision": given[KEY_METRIC_PRECISION], "recall": given[KEY_METRIC_RECALL]}
    if isinstance(isc := how.get("isc"), dict):
        given = isc_features_to_metric(generated["logits"], isc["splits"], shuffle=True, rng_seed=how["seed"])
        found |= {"inception_score": given[KEY_METRIC_ISC_MEAN], "inception_score_std": given[KEY_METRIC_ISC_STD]}
    return {space.column(name): value for name, value in found.items()}


def _some(features: Tensor, n: int) -> Tensor:
    """A fixed random choice of ``n`` rows; all rows in their order if there are at most ``n``."""
    if len(features) <= n:
        return features
    return features[torch.randperm(len(features), generator=generator("prc", len(features)))[:n]]
