"""Scores are those that torch-fidelity gives for files of the same images, whatever batch, rank or precision."""

import warnings
from pathlib import Path

import pytest
import torch
import torch_fidelity
from features import files_of, images_of, reference_of

from lf.metrics import CLIP, Extractor, Reference, joined, protocol, scores

PNG = {
    "fd": "frechet_inception_distance",
    "kid": "kernel_inception_distance_mean",
    "kid_std": "kernel_inception_distance_std",
    "precision": "precision",
    "recall": "recall",
    "inception_score": "inception_score_mean",
    "inception_score_std": "inception_score_std",
}


@pytest.mark.parametrize("kind, n", [("inception", 12), ("clip", 60)])
def test_scores_are_those_of_the_image_files(kind: str, n: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    space, file = request.getfixturevalue(kind), request.getfixturevalue(f"{kind}_file")
    real, made = images_of(range(n)), images_of(range(1000, 1000 + n)).images
    made = (made.float() * 0.9).to(torch.uint8)
    reference = Reference.of(real, space, tmp_path)
    features = space.features(made)
    found = scores(space, features, reference)
    settings = protocol(space, reference, n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch-fidelity's own making
        expected = torch_fidelity.calculate_metrics(
            input1=files_of(made, tmp_path / "made"),
            input2=files_of(real.images, tmp_path / "real"),
            feature_extractor=space.name,
            feature_extractor_weights_path=str(file),
            isc=kind == "inception",
            fid=True,
            kid=True,
            prc=True,
            kid_subset_size=settings["kid"]["subset_size"],
            cuda=False,
            save_cpu_ram=True,
            cache=False,
            verbose=False,
        )
    assert found == {
        space.column(ours): pytest.approx(expected[theirs], rel=1e-6, abs=1e-9)
        for ours, theirs in PNG.items()
        if theirs in expected
    }
    assert len(found) == (7 if kind == "inception" else 5) and found[space.column("fd")] > 0.01
    if kind == "inception":  # and its own statistics, from the file they are saved in
        reference.save(tmp_path / "own.npz", {})
        again = Reference.load(tmp_path / "own.npz", space)
        assert again.digest == reference.digest
        assert abs(scores(space, {**features, "features": reference.kept}, again)["fid"]) < 1e-3


def test_each_extractor_has_columns_of_its_own(inception: Extractor, clip: Extractor) -> None:
    assert [inception.column(name) for name in ("fd", "kid", "precision")] == ["fid", "kid", "precision"]
    assert [clip.column(name) for name in ("fd", "kid")] == ["fd_clip_vit_b_32", "kid_clip_vit_b_32"]


def test_scores_depend_on_no_batch_and_no_rank(clip_file: Path, clip: Extractor) -> None:
    reference, made = (
        reference_of(clip.features(images_of(range(50)).images)["features"]),
        images_of(range(90, 151)).images,
    )
    whole = scores(clip, clip.features(made), reference)
    ranks = [torch.arange(len(made))[rank::3].flip(0) for rank in range(3)]
    other = Extractor(CLIP, clip_file, batch=7)
    parts = [other.features(made[some]) for rank in ranks for some in rank.split(5)]
    features = joined(parts, torch.cat(ranks))
    assert scores(clip, features, reference) == pytest.approx(whole, rel=1e-5)
    assert scores(clip, joined(parts), reference)["kid_clip_vit_b_32"] != pytest.approx(
        whole["kid_clip_vit_b_32"], rel=1e-5
    )


def test_features_are_float32_whatever_surrounds_them(clip: Extractor) -> None:
    images = images_of(range(8)).images
    plain = clip.features(images)["features"]
    with torch.autocast("cpu", torch.bfloat16):
        assert clip.features(images)["features"].equal(plain)
    assert plain.dtype == torch.float32 and not plain.requires_grad


def test_the_whole_protocol_is_stated(inception: Extractor) -> None:
    wide = Reference(torch.zeros(2048), torch.eye(2048), None, torch.zeros(30_000, 2048))
    assert protocol(inception, wide, 50_000) == {
        "extractor": "inception-v3-compat",
        "weights": inception.weights,
        "n": 50_000,
        "reference": wide.digest,
        "reference_n": None,
        "seed": 2020,
        "torch_fidelity": torch_fidelity.__version__,
        "fd": {},
        "kid": {"subsets": 100, "subset_size": 1000},
        "prc": {"neighborhood": 3, "generated": 10_000, "reference": 10_000},
        "isc": {"splits": 10},
    }
