"""Scores: the Fréchet distance is the textbook's, the judge is reproducible, agreement counts what it says."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_fidelity
from safetensors.torch import load_file
from scipy.linalg import sqrtm
from torch import Tensor

from lf import data, metrics
from lf.data import Images, shapes
from lf.metrics import Judge, judge_from
from lf.storage.atomic import sha256
from lf.storage.cache import SHIPPED


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


def test_the_judge_of_shapes_comes_with_the_code_and_reads_every_fact(tmp_path: Path) -> None:
    def split(name: str, indices: range) -> Images:
        digest = data.digest("shapes", 32) + ("" if name == "train" else f"-{name}")
        return replace(shapes.make(indices, agree=name != "judge"), digest=digest)

    lessons = split("judge", range(300_000, 300_400))
    judge = Judge(split("train", range(40)), lessons, tmp_path)
    assert judge.weights == sha256(SHIPPED / judge.file.name)[:16], "nothing is trained"
    seen = judge.net.facts_of(judge.features(lessons.images)["logits"])
    truth = {"class": lessons.labels, **lessons.facts}
    assert min((seen[name].argmax(1) == truth[name]).float().mean() for name in truth) > 0.99


@pytest.mark.parametrize("n", [300, 600])
def test_the_frechet_distance_is_the_textbooks(judge: Judge, reference: Images, n: int) -> None:
    other = images_of(range(5000, 5000 + n), "other")
    fd = judge.score(other.images, other.labels)["fd"]
    expected = frechet(features(judge, other.images), features(judge, reference.images))
    assert fd == pytest.approx(expected, rel=1e-4) and fd > 0


class Extractor(torch_fidelity.FeatureExtractorBase):
    """A judge as torch-fidelity sees it; its weights lie in ``feature_extractor_weights_path``."""

    def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: str, **_: Any):
        super().__init__(name, features_list)
        self.net = judge_from(Path(feature_extractor_weights_path))

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("features",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "features"

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.net(images)[0],)


torch_fidelity.register_feature_extractor("test-judge", Extractor)


def test_the_distance_is_the_one_that_torch_fidelity_measures(judge: Judge, reference: Images) -> None:
    other = images_of(range(5000, 5400), "other")
    sets = [[*images.images] for images in (other, reference)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch-fidelity's own making
        expected = torch_fidelity.calculate_metrics(
            input1=Listed(sets[0]),
            input2=Listed(sets[1]),
            feature_extractor="test-judge",
            feature_extractor_weights_path=str(judge.file),
            fid=True,
            cuda=False,
            save_cpu_ram=True,
            cache=False,
            verbose=False,
        )
    assert judge.score(*_pair(other))["fd"] == pytest.approx(expected["frechet_inception_distance"], rel=1e-6)


class Listed(list[Tensor], torch.utils.data.Dataset):  # type: ignore[misc]
    """Images as torch-fidelity takes them."""


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


def one_hot(value: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(value, 6).float()


def read(judge: Judge, told: dict[str, Tensor], images: Images, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What comes out where the judge reads the facts and the class as they are told, whatever the image."""
    monkeypatch.setattr(judge.net, "facts", dict.fromkeys(told, 6))
    return judge.reading(torch.cat([one_hot(value) for value in told.values()], 1), images.labels)


def test_agreement_and_class_accuracy_count_what_they_say(
    judge: Judge, reference: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = {"class": reference.labels, **reference.facts}
    assert read(judge, truth, reference, monkeypatch) == {
        "class_accuracy": 1,
        "agreement": 1,
        **{f"agreement_{kind}": 1 for kind in shapes.KINDS},
    }

    wrong = dict(truth)
    wrong["right.shape"] = torch.where(torch.arange(600) < 150, (truth["right.shape"] + 1) % 4, truth["right.shape"])
    wrong["left.hue"] = torch.where(torch.arange(600) % 2 == 0, (truth["left.hue"] + 1) % 6, truth["left.hue"])
    wrong["class"] = torch.where(torch.arange(600) < 60, (truth["class"] + 1) % 6, truth["class"])
    scores = read(judge, wrong, reference, monkeypatch)
    assert scores["agreement_shape"] == pytest.approx(0.75) and scores["agreement_hue"] == pytest.approx(0.5)
    assert scores["agreement_orientation"] == 1 and scores["class_accuracy"] == pytest.approx(0.9)
    assert scores["agreement"] == pytest.approx(0.375)  # 450 of 600 in shape, half of those in hue


def test_images_without_objects_have_no_agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.RECIPE, "steps", 2)
    plain = replace(images_of(range(300), "plain"), facts={})
    scores = Judge(plain, plain, tmp_path).score(plain.images, plain.labels)
    assert scores.keys() == {"fd", "class_accuracy"}
