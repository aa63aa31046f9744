"""Reference statistics of scores: mean and covariance of features, and some of the features."""

import hashlib
import json
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lf.core.errors import UserError
from lf.core.seeds import generator
from lf.core.stages import stage
from lf.data.base import Dataset
from lf.data.loader import Damaged, reads
from lf.data.moments import merge
from lf.metrics.space import INCEPTION, Space
from lf.storage.cache import cache_file, made_once
from lf.storage.pickles import NotReadable, unpickle_arrays

KEPT_FEATURES = 10_000  # for KID, precision and recall; as many as in the reference batch of ADM (arXiv 2105.05233)
CHUNK = 250  # images read at a time
BLOCK = 50_000  # images whose features are in memory at a time
ROUNDING = 1e-5  # of a covariance, relative to its largest entry or eigenvalue


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
        """Reads the statistics in a file.

        It is an ``.npz`` file with ``mu`` and ``sigma`` (or ``mean`` and ``cov``), as ADM and JiT publish them, or what
        `save` wrote; or EDM's pickle, ``{"fid": {"mu": …, "sigma": …}}``, which is read without running code.

        Args:
            file: path of the file.
            space: feature space of the scores.
            resolution: resolution of the images to be scored, in pixels.

        Raises:
            UserError: the file is missing, damaged, no statistics, or of another feature space or resolution.
        """
        found = arrays(existing(file), space.name)
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
        for name, array in (("mu", mu), ("sigma", sigma), ("features", kept)):
            if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
                raise UserError(f"reference={file}: {name} must hold finite floating point numbers")
        if fault := not_covariance(sigma):
            raise UserError(f"reference={file}: sigma is no covariance: {fault}")
        n = found.get("n")
        if n is not None and (n.shape != () or not np.issubdtype(n.dtype, np.integer) or n < 2):
            raise UserError(f"reference={file}: n must be a number of images, 2 or more")
        mu, sigma, kept = mu.astype(np.float64), sigma.astype(np.float64), kept.astype(np.float32)
        return cls(torch.from_numpy(mu), torch.from_numpy(sigma), None if n is None else int(n), torch.from_numpy(kept))

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
    with stage(f"reads the features {space.name} of {dataset.name}", len(order), "image") as bar:
        for rows, batch in zip(parts, found, strict=True):
            bar.update(len(rows))
            damaged.see(batch)
            if not batch.valid.any():
                continue
            features = space.features(batch.images[batch.valid])["features"]
            space.check(features, f"data={dataset.name}", rows[batch.valid])
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
        from torch_fidelity.metric_fid import fid_features_to_statistics  # imported here only: it takes a second

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


_UNREADABLE = (
    OSError, ValueError, TypeError, AttributeError, EOFError, KeyError, NotImplementedError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def arrays(file: Path, space: str) -> dict[str, np.ndarray]:
    """The arrays in a file of statistics: ``mu`` ``(C,)``, ``sigma`` ``(C, C)``, and what else `Reference.save` writes.

    Args:
        file: see `Reference.load`.
        space: name of the feature space.

    Raises:
        UserError: the file cannot be read, or has no ``mu`` or ``sigma``.
    """
    try:
        with file.open("rb") as opened:
            pickled = opened.read(1) == b"\x80"
        found = _of_edm(unpickle_arrays(file), file, space) if pickled else dict(_npz(file))
    except _UNREADABLE as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"reference={file}: cannot be read as .npz: {reason}") from None
    except NotReadable as error:
        raise UserError(f"reference={file}: cannot be read as a pickle: {error}") from None
    for name, other in (("mu", "mean"), ("sigma", "cov")):
        found.setdefault(name, found.pop(other, np.zeros(0)))
        if not found[name].size:
            raise UserError(f"reference={file}: the arrays mu and sigma are missing")
    for name, dimensions in (("mu", 1), ("sigma", 2)):
        while found[name].ndim > dimensions and found[name].shape[0] == 1:
            found[name] = found[name][0]
    return found


def _npz(file: Path) -> Iterator[tuple[str, np.ndarray]]:
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as held:  # a single array: AttributeError
        for name in ("mu", "sigma", "mean", "cov", "n", "features", "meta"):
            if name in held:
                with held.zip.open(f"{name}.npy") as member:
                    version = np.lib.format.read_magic(member)
                    one = version == (1, 0)
                    read = np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0
                    shape, _, kind = read(member)
                if math.prod(shape) * kind.itemsize > held.zip.getinfo(f"{name}.npy").file_size:
                    raise ValueError(f"{name} is damaged: its shape {shape} needs more bytes than it has")
                yield name, held[name]


def _of_edm(found: Any, file: Path, space: str) -> dict[str, np.ndarray]:
    """The arrays of EDM's pickle, in which statistics of Inception's features are called ``fid``."""
    if isinstance(found, dict) and not {"mu", "sigma"} <= found.keys():
        if space != INCEPTION or "fid" not in found:
            held = ", ".join(map(str, found)) or "nothing"
            raise UserError(f"reference={file}: holds {held}; only fid can be used, with features={INCEPTION}")
        found = found["fid"]
    if not isinstance(found, dict):
        raise UserError(f"reference={file}: holds a {type(found).__name__} instead of named arrays")
    return {name: value for name, value in found.items() if isinstance(value, np.ndarray)}


def not_covariance(sigma: np.ndarray) -> str:
    """Why a matrix ``(C, C)`` cannot be a covariance, beyond rounding to float32; empty if it can be one."""
    matrix = torch.from_numpy(sigma.astype(np.float64))
    apart = (matrix - matrix.mT).abs().max()
    if apart > ROUNDING * matrix.abs().max():
        return f"it is not symmetric: two entries differ by {apart:.3g}"
    values = torch.linalg.eigvalsh(matrix)
    if values[0] < -ROUNDING * values.abs().max():
        return f"it has a negative eigenvalue, {values[0]:.3g}, and the largest is {values[-1]:.3g}"
    return ""


def _meta(found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The metadata that `Reference.save` wrote; empty for files of other programs."""
    try:
        return dict(json.loads(str(found["meta"])))
    except (KeyError, ValueError, TypeError):
        return {}
