"""Scores from features, by torch-fidelity's own functions and with its defaults."""

from collections.abc import Sequence
from typing import Any

import torch
import torch_fidelity
from torch import Tensor
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from lf.metrics.reference import KEPT, Moments, Reference
from lf.metrics.space import Space
from lf.seeds import generator


def joined(parts: Sequence[dict[str, Tensor]], indices: Tensor | None = None) -> dict[str, Tensor]:
    """Features of several parts as one.

    Args:
        parts: what `Space.features` gave for each.
        indices: ``(N,)``: the images' numbers, in the order of the parts. Rows are put in ascending order of them, so
            that no score depends on who computed what. By default they stay as they are.
    """
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return whole if indices is None else {name: value[indices.argsort()] for name, value in whole.items()}


def protocol(space: Space, reference: Reference, n: int) -> dict[str, Any]:
    """How ``n`` generated images are scored; JSON, and all of it: two scores compare where this is equal.

    For each of ``fd``, ``kid``, ``prc`` and ``isc`` that the space measures it holds the settings, or the reason why
    it is missing. KID draws its subsets, and the Inception Score its splits, with torch-fidelity's ``seed``. Precision
    and recall depend on both numbers of features; above 10,000 a fixed random choice is used. For small N the size of
    KID's subsets is the smaller number of features: still unbiased, but its ``kid_std`` shrinks.
    """
    kept, splits, neighbors = len(reference.kept), DEFAULTS["isc_splits"], DEFAULTS["prc_neighborhood"]
    kid = {"subsets": DEFAULTS["kid_subsets"], "subset_size": min(DEFAULTS["kid_subset_size"], n, kept)}
    prc = {"neighborhood": neighbors, "generated": min(n, KEPT), "reference": min(kept, KEPT)}
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
        generated: what it gave for all N images, in the order of their numbers (see `joined`).
        reference: statistics in the same space.

    Returns:
        By `Space.column`: ``fd``, which Inception's features call ``fid``: Fréchet distance ≥ 0 (arXiv 1706.08500);
        ``kid`` and ``kid_std`` (arXiv 1801.01401), unbiased and so possibly below 0; ``precision`` and ``recall`` in
        [0, 1] (arXiv 1904.06991), in this space's features as ADM's are in Inception's; ``inception_score`` ≥ 1 and
        ``inception_score_std`` (arXiv 1606.03498). What `protocol` calls missing is absent.
    """
    features = generated["features"]
    how = protocol(space, reference, len(features))
    found: dict[str, float] = {}
    pair = [{"mu": of.mu.numpy(), "sigma": of.sigma.numpy()} for of in (Moments.of(features), reference)]
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
    """A random choice of ``n`` rows, always the same; all of them as they are where there are no more."""
    if len(features) <= n:
        return features
    return features[torch.randperm(len(features), generator=generator("prc", len(features)))[:n]]
