"""Scores: the Fréchet distance is the textbook's, the judge is reproducible, agreement counts what it says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.linalg import sqrtm
from torch import Tensor

from lf import metrics
from lf.data import Images, shapes
from lf.metrics import Judge


def images_of(indices: range, name: str, agree: bool = True) -> Images:
    return replace(shapes.make(indices, resolution=16, agree=agree), digest=name)


@pytest.fixture(scope="module")
def reference() -> Images:
    return images_of(range(600), "reference")


@pytest.fixture(scope="module")
def lessons() -> Images:
    return images_of(range(1000, 1600), "lessons", agree=False)


@pytest.fixture(scope="module")
def judge(reference: Images, lessons: Images, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(metrics.RECIPE, "steps", 30)
        return Judge(reference, lessons, tmp_path_factory.mktemp("cache"))


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """``|μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½)``."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(cov_a @ cov_b).real
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root))


def features(judge: Judge, images: Tensor) -> np.ndarray:
    with torch.no_grad():
        return judge.net(images)[0].double().numpy()


@pytest.mark.parametrize("n", [300, 600])
def test_the_frechet_distance_is_the_textbooks(judge: Judge, reference: Images, n: int) -> None:
    other = images_of(range(5000, 5000 + n), "other")
    fd = judge.score(other.images, other.labels)["fd"]
    expected = frechet(features(judge, other.images), features(judge, reference.images))
    assert fd == pytest.approx(expected, rel=1e-4) and fd > 0


def test_worse_images_score_worse_and_the_same_images_score_nothing(judge: Judge, reference: Images) -> None:
    itself = judge.score(reference.images, reference.labels)["fd"]
    fresh = judge.score(*_pair(images_of(range(5000, 5600), "fresh")))["fd"]
    noise = judge.score(torch.randint(256, (600, 3, 16, 16), dtype=torch.uint8), reference.labels)["fd"]
    assert abs(itself) < 1e-3 * fresh and fresh < 0.1 * noise


def _pair(images: Images) -> tuple[Tensor, Tensor]:
    return images.images, images.labels


def test_two_fits_are_equal(
    judge: Judge, reference: Images, lessons: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(metrics.RECIPE, "steps", 30)
    torch.manual_seed(99)  # has no part in it
    again = Judge(reference, lessons, tmp_path)
    first, second = load_file(judge.file), load_file(again.file)
    assert judge.digest == again.digest and judge.file != again.file and first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)
    some = images_of(range(7000, 7200), "some")
    assert judge.score(*_pair(some)) == again.score(*_pair(some)) == judge.score(*_pair(some))


def test_another_recipe_or_other_images_are_another_judge(
    judge: Judge, reference: Images, lessons: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(metrics.RECIPE, "steps", 2)
    names = {
        Judge(reference, lessons, tmp_path).digest,
        Judge(replace(reference, digest="more"), lessons, tmp_path).digest,
        Judge(reference, replace(lessons, digest="more"), tmp_path).digest,
        judge.digest,
    }
    assert len(names) == 4


class Oracle:
    """Reads the facts and the class as they are told, whatever the image."""

    def __init__(self, told: dict[str, Tensor]):
        self.told, self.seen = told, 0

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        rows = slice(self.seen, self.seen + len(images))
        self.seen += len(images)
        return torch.zeros(len(images), 1), torch.cat([one_hot(value[rows]) for value in self.told.values()], 1)

    def facts_of(self, logits: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.told, logits.split(6, 1), strict=True))


def one_hot(value: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(value, 6).float()


def scored(judge: Judge, told: dict[str, Tensor], images: Images, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    monkeypatch.setattr(judge, "net", Oracle(told))
    return judge.score(images.images, images.labels)


def test_agreement_and_class_accuracy_count_what_they_say(
    judge: Judge, reference: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = {"class": reference.labels, **reference.facts}
    scores = scored(judge, truth, reference, monkeypatch)
    assert {name: value for name, value in scores.items() if name != "fd"} == {
        "class_accuracy": 1,
        "agreement": 1,
        **{f"agreement_{kind}": 1 for kind in shapes.KINDS},
    }

    wrong = dict(truth)
    wrong["right.shape"] = torch.where(torch.arange(600) < 150, (truth["right.shape"] + 1) % 4, truth["right.shape"])
    wrong["left.hue"] = torch.where(torch.arange(600) % 2 == 0, (truth["left.hue"] + 1) % 6, truth["left.hue"])
    wrong["class"] = torch.where(torch.arange(600) < 60, (truth["class"] + 1) % 6, truth["class"])
    scores = scored(judge, wrong, reference, monkeypatch)
    assert scores["agreement_shape"] == pytest.approx(0.75) and scores["agreement_hue"] == pytest.approx(0.5)
    assert scores["agreement_orientation"] == 1 and scores["class_accuracy"] == pytest.approx(0.9)
    assert scores["agreement"] == pytest.approx(0.375)  # 450 of 600 in shape, half of those in hue


def test_images_without_objects_have_no_agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.RECIPE, "steps", 2)
    plain = replace(images_of(range(300), "plain"), facts={})
    scores = Judge(plain, plain, tmp_path).score(plain.images, plain.labels)
    assert scores.keys() == {"fd", "class_accuracy"}
