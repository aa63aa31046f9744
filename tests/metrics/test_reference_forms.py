"""Files of statistics in every form that is published; what is no covariance, or not finite, is never compared with."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from features import Given, images_of
from hypothesis import given
from hypothesis import strategies as st

from lf.core.errors import UserError
from lf.metrics import INCEPTION, Reference
from lf.metrics.reference import not_covariance

C = 5
FEATURES = torch.randn(60, C, generator=torch.Generator().manual_seed(0))
MU, SIGMA = FEATURES.double().mean(0).numpy(), np.cov(FEATURES.double().numpy(), rowvar=False)


class Inception(Given):
    """A space of five features by the name of Inception's."""

    name = INCEPTION


SPACE = Inception(width=C)


def written(file: Path, arrays: dict[str, Any]) -> Path:
    if file.suffix == ".pkl":
        file.write_bytes(pickle.dumps(arrays))
    else:
        np.savez(file.with_suffix(".npz"), **arrays)
        file.with_suffix(".npz").rename(file)
    return file


FORMS: dict[str, Any] = {
    "plain.npz": {"mu": MU, "sigma": SIGMA},
    "other_names.npz": {"mean": MU, "cov": SIGMA},
    "stacked.npz": {"mu": MU[None], "sigma": SIGMA[None]},
    "float32.npz": {"mu": MU.astype(np.float32), "sigma": SIGMA.astype(np.float32)},
    "numbered.npz": {"mu": MU, "sigma": SIGMA, "n": np.array(60)},
    "edm.pkl": {"fid": {"mu": MU, "sigma": SIGMA}, "fd_dinov2": {"mu": MU * 2, "sigma": SIGMA * 2}},
    "flat.pkl": {"mu": MU, "sigma": SIGMA, "about": "plain words", "fid": np.float64(1.5)},
    "big_endian.pkl": {"mu": MU.astype(">f8"), "sigma": SIGMA.astype(">f8")},
}


@pytest.mark.parametrize("name", FORMS)
def test_every_published_form_is_read(name: str, tmp_path: Path) -> None:
    found = Reference.load(written(tmp_path / name, FORMS[name]), SPACE)
    torch.testing.assert_close(found.mu, torch.from_numpy(MU), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.sigma, torch.from_numpy(SIGMA), rtol=1e-6, atol=1e-7)
    assert found.n == (60 if name == "numbered.npz" else None)


def changed(row: int, column: int, value: float) -> np.ndarray:
    sigma = SIGMA.copy()
    sigma[row, column] = value
    return sigma


FAULTS: dict[str, tuple[Any, str]] = {
    "negative.npz": (
        {"mu": MU, "sigma": changed(0, 0, -5)},
        "sigma is no covariance: it has a negative eigenvalue, -5",
    ),
    "askew.npz": ({"mu": MU, "sigma": changed(0, 1, 0.9)}, "sigma is no covariance: it is not symmetric"),
    "endless.npz": ({"mu": MU, "sigma": changed(2, 2, np.inf)}, "sigma must hold finite floating point numbers"),
    "nan.npz": ({"mu": MU * np.nan, "sigma": SIGMA}, "mu must hold finite floating point numbers"),
    "none.npz": ({"mu": MU, "sigma": SIGMA, "n": np.array(0)}, "n must be a number of images, 2 or more"),
    "half.npz": ({"mu": MU, "sigma": SIGMA, "n": np.array(1.5)}, "n must be a number of images, 2 or more"),
    "many.npz": ({"mu": MU, "sigma": SIGMA, "n": np.array([6, 0])}, "n must be a number of images, 2 or more"),
    "dino.pkl": ({"fd_dinov2": {"mu": MU, "sigma": SIGMA}}, "holds fd_dinov2; only fid can be used"),
    "words.pkl": ({"fid": "statistics"}, "holds a str instead of named arrays"),
    "list.pkl": ([MU, SIGMA], "holds a list instead of named arrays"),
    "code.pkl": ({"fid": {"mu": MU, "sigma": os.getcwd}}, "getcwd, which is not loaded because it could run code"),
    "words_in_arrays.pkl": ({"mu": np.array(["a"]), "sigma": SIGMA}, "holds an array of <U1, not of numbers"),
    "objects.pkl": ({"mu": np.array([os.getcwd]), "sigma": SIGMA}, "getcwd, which is not loaded"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_statistics_is_one_line(name: str, tmp_path: Path) -> None:
    arrays, said = FAULTS[name]
    with pytest.raises(UserError) as refused:
        Reference.load(written(tmp_path / name, arrays), SPACE)
    assert said in str(refused.value) and name in str(refused.value) and "\n" not in str(refused.value)


def test_a_torn_pickle_is_one_line(tmp_path: Path) -> None:
    whole = pickle.dumps(FORMS["edm.pkl"])
    for end in range(1, len(whole), 7):
        (tmp_path / "torn.pkl").write_bytes(whole[:end])
        with pytest.raises(UserError, match="torn.pkl"):
            Reference.load(tmp_path / "torn.pkl", SPACE)


@given(seed=st.integers(0, 2**31), width=st.integers(1, 24), n=st.integers(2, 40), single=st.booleans())
def test_every_covariance_passes_rounded_or_not(seed: int, width: int, n: int, single: bool) -> None:
    """Also those of fewer images than features, which have eigenvalues of 0, stored in single precision."""
    draw = np.random.default_rng(seed)
    features = draw.standard_normal((n, width)) * 10.0 ** draw.uniform(-3, 3, width)
    sigma = np.atleast_2d(np.cov(features, rowvar=False))
    assert not not_covariance(sigma.astype(np.float32) if single else sigma)


@given(seed=st.integers(0, 2**31), width=st.integers(1, 24), negative=st.floats(1e-3, 10))
def test_a_negative_eigenvalue_never_passes(seed: int, width: int, negative: float) -> None:
    draw = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(draw.standard_normal((width, width)))
    values = np.append(draw.uniform(0, 1, width - 1), -negative)
    sigma = basis * values @ basis.T
    assert "negative eigenvalue" in not_covariance((sigma + sigma.T) / 2)


class Broken(Given):
    """The features of one image are not numbers."""

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        found = super().features(images)
        found["features"][images.flatten(1)[:, 0] == 7] = torch.nan
        return found


def test_real_images_whose_features_are_no_numbers_are_named(tmp_path: Path) -> None:
    images = images_of(range(12))
    images.images[:, 0, 0, 0] = torch.arange(12)
    with pytest.raises(UserError, match="data=shapes: the features of image 7 in given are not finite"):
        Reference.of(images, Broken(width=4), tmp_path)
