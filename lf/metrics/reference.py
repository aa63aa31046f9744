"""Reference statistics of scores: mean and covariance of features, and some of the features."""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics
from tqdm import tqdm

from lf.core.errors import UserError
from lf.core.seeds import generator
from lf.data.base import Dataset
from lf.data.loader import Damaged, reads
from lf.data.moments import merge
from lf.metrics.space import Space
from lf.storage.cache import cache_file, made_once

KEPT_FEATURES = 10_000  # for KID, precision and recall; as many as in the reference batch of ADM (arXiv 2105.05233)
CHUNK = 250  # images read at a time
BLOCK = 50_000  # images whose features are in memory at a time


@dataclass(frozen=True, eq=False)
class Reference:
    """Statistics of one data set in one feature space.

    Attributes:
        mu: ``(C,)`` float64, mean.
        sigma: ``(C, C)`` float64, covariance (division by n-1).
        n: number of images; None if a published file does not state it.
        kept: ``(K, C)`` float32, features of K randomly chosen images; K may be 0.
    """

    mu: Tensor
    sigma: Tensor
    n: int | None
    kept: Tensor

    @cached_property
    def digest(self) -> str:
        """Hash of the statistics: equal digest, equal scores."""
        hashed = hashlib.sha256()
        for part in (self.mu, self.sigma, self.kept):
            hashed.update(f"{tuple(part.shape)}".encode())
            hashed.update(np.ascontiguousarray(part.numpy()).data)
        return hashed.hexdigest()[:16]

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        space: Space,
        cache: Path,
        *,
        n: int | None = None,
        keep: int = KEPT_FEATURES,
        workers: int = 0,
        limit_damaged: int = 0,
    ) -> "Reference":
        """The statistics of a data set, computed in one pass and cached under ``cache``.

        Args:
            dataset: its images are used once each and not mirrored; damaged ones are left out.
            space: the feature space.
            cache: folder for the result.
            n: number of images, chosen at random; by default all.
            keep: number of these images whose features are kept.
            workers: processes that read ahead, if the images are on disk.
            limit_damaged: most damaged images that are left out.

        Raises:
            UserError: more damaged images than the limit, or fewer than two others.
        """
        what = [dataset.digest, len(dataset), space.name, space.weights, n, keep]
        file = cache_file(cache, "reference", repr(what))
        found = made_once(file, lambda: _measured(dataset, space, n, keep, workers, Damaged(limit_damaged)))
        return cls(found["mu"], found["sigma"], int(found["n"]), found["features"])

    @classmethod
    def load(cls, file: str | Path, space: Space, resolution: int | None = None) -> "Reference":
        """Reads an ``.npz`` file: ``mu`` and ``sigma``, as ADM and JiT publish them, or what `save` wrote.

        Args:
            file: path of the file.
            space: feature space of the scores.
            resolution: resolution of the images to be scored, in pixels.

        Raises:
            UserError: the file is missing, damaged, or of another feature space or resolution.
        """
        found = _arrays(existing(file))
        meta = _meta(found)
        for key, ours in (("extractor", space.name), ("weights", space.weights), ("resolution", resolution)):
            if ours is not None and meta.get(key, ours) != ours:
                raise UserError(f"reference={file}: it was made with {key}={meta[key]}, but here {key}={ours}")
        mu, sigma = found["mu"], found["sigma"]
        kept, width = found.get("features", np.zeros((0, *mu.shape))), space.width
        if mu.shape != (width,) or sigma.shape != (width, width) or kept.shape[1:] != (width,):
            raise UserError(
                f"reference={file}: mu {mu.shape}, sigma {sigma.shape}, features {kept.shape}: the features of "
                f"{space.name} have width {width}"
            )
        if not all(np.issubdtype(a.dtype, np.floating) and np.isfinite(a).all() for a in (mu, sigma, kept)):
            raise UserError(f"reference={file}: mu, sigma and features must be finite floating point numbers")
        n = int(found["n"]) if "n" in found else None
        mu, sigma, kept = mu.astype(np.float64), sigma.astype(np.float64), kept.astype(np.float32)
        return cls(torch.from_numpy(mu), torch.from_numpy(sigma), n, torch.from_numpy(kept))

    def save(self, file: str | Path, meta: Mapping[str, Any]) -> None:
        """Writes ``mu``, ``sigma``, ``n``, ``features`` (if any are kept) and ``meta`` (JSON), atomically."""
        file = Path(file)
        arrays: dict[str, Any] = {
            "mu": self.mu.numpy(),
            "sigma": self.sigma.numpy(),
            "meta": np.array(json.dumps(dict(meta))),
        }
        if self.n is not None:
            arrays["n"] = np.array(self.n)
        if len(self.kept):
            arrays["features"] = self.kept.numpy()
        part = file.with_name(f"{file.name}.{os.getpid()}.part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as opened:
                np.savez(opened, **arrays)
                opened.flush()
                os.fsync(opened.fileno())
            os.replace(part, file)
        except OSError as error:
            raise UserError(f"{file}: cannot be written: {error.strerror}") from None


def _measured(
    dataset: Dataset, space: Space, n: int | None, keep: int, workers: int, damaged: Damaged
) -> dict[str, Tensor]:
    """Statistics in one pass: torch-fidelity's statistics of each block of images, merged."""
    order = torch.randperm(len(dataset), generator=generator("reference", len(dataset)))[:n]
    keeps = torch.zeros(len(dataset), dtype=torch.bool)
    keeps[order[:keep]] = True
    done, waiting, kept = None, [], []
    parts = order.sort().values.split(CHUNK)  # in the order on disk
    found = reads(dataset, ((rows, None) for rows in parts), workers)
    for rows, batch in tqdm(zip(parts, found, strict=True), f"{space.name}: {dataset.name}", len(parts), disable=None):
        damaged.see(batch)
        if not batch.valid.any():
            continue
        features = space.features(batch.images[batch.valid])["features"]
        kept.append(features[keeps[rows[batch.valid]]])
        waiting.append(features)
        if sum(map(len, waiting)) >= 2 * BLOCK:  # so that the last block is not a small one
            whole = torch.cat(waiting)
            done, waiting = _merged(done, Statistics.of(whole[:BLOCK])), [whole[BLOCK:]]
    if sum(map(len, waiting)) < 2:
        raise UserError(f"data={dataset.name}: statistics need two images or more")
    n, mu, sigma = _merged(done, Statistics.of(torch.cat(waiting)))
    return {"mu": mu, "sigma": sigma, "features": torch.cat(kept), "n": torch.tensor(n)}


class Statistics(NamedTuple):
    """Number of rows, their mean ``(C,)`` and covariance ``(C, C)``, float64."""

    n: int
    mu: Tensor
    sigma: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Statistics":
        """The statistics as torch-fidelity computes them, with the mean in float32."""
        found = fid_features_to_statistics(features)
        return cls(len(features), *(torch.from_numpy(found[name]).double() for name in ("mu", "sigma")))


def _merged(a: Statistics | None, b: Statistics) -> Statistics:
    """Statistics of the rows of both parts."""
    if a is None:
        return b
    n, mu, delta, weight = merge(a.n, a.mu, b.n, b.mu)
    scatter = (a.n - 1) * a.sigma + (b.n - 1) * b.sigma + torch.outer(delta, delta) * weight
    return Statistics(n, mu, scatter / (n - 1))


def existing(file: str | Path) -> Path:
    """``file`` as a path. Raises `UserError` if it does not exist."""
    if not Path(file).is_file():
        raise UserError(
            f"reference={file}: no such file; python -m lf.metrics.make_reference makes one; ADM and JiT publish theirs"
        )
    return Path(file)


def _arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ("mu", "sigma", "n", "features", "meta") if name in arrays}
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"reference={file}: cannot be read as .npz: {reason}") from None
    if not {"mu", "sigma"} <= found.keys():
        raise UserError(f"reference={file}: the arrays mu and sigma are missing")
    return found


def _meta(found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The metadata that `Reference.save` wrote; empty for files of other programs."""
    try:
        return dict(json.loads(str(found["meta"])))
    except (KeyError, ValueError, TypeError):
        return {}
