"""What each score means, by its textbook formula."""

from dataclasses import replace

import pytest
import torch
from features import Given, given, reference_of
from torch import Tensor

from lf.metrics import measures, protocol, scores


def test_what_the_scores_mean() -> None:
    wide = torch.randn(400, 2)
    narrow = 0.05 * torch.randn(300, 2)
    found = scores(Given(), given(narrow), reference_of(wide))
    # All of a narrow heap lies among the real points; few of those lie in it.
    assert found["precision_given"] == 1 and found["recall_given"] < 0.1
    found = scores(Given(), given(wide), reference_of(narrow))
    assert found["precision_given"] < 0.1 and found["recall_given"] == 1
    # The distance of two Gaussians: |Δμ|² + Σ (σ_a - σ_b)².
    moved = scores(Given(), given(3 * wide + torch.tensor([5.0, 0.0])), reference_of(wide))
    spread = wide.double().T.cov().trace().item()
    shift = (2 * wide.double().mean(0) + torch.tensor([5.0, 0.0])).square().sum().item()
    assert moved["fd_given"] == pytest.approx(shift + 4 * spread, rel=1e-5)


def test_kid_is_the_textbooks() -> None:
    x, y = torch.randn(30, 2), torch.randn(30, 2) + 1

    def k(a: Tensor, b: Tensor) -> Tensor:
        return (a.double() @ b.double().T / 2 + 1) ** 3

    within = sum((k(z, z).sum() - k(z, z).trace()) / (30 * 29) for z in (x, y))
    expected = float(within - 2 * k(x, y).mean())
    assert scores(Given(), given(x), reference_of(y))["kid_given"] == pytest.approx(expected, rel=1e-4)


def test_the_inception_score_counts_classes() -> None:
    logits = 50.0 * torch.eye(4).repeat(100, 1)
    found = scores(Given(), given(torch.randn(400, 2), logits), reference_of(torch.randn(9, 2)))
    assert found["inception_score_given"] == pytest.approx(4, rel=0.1)
    found = scores(Given(), given(torch.randn(400, 2), torch.zeros(400, 4)), reference_of(torch.randn(9, 2)))
    assert found["inception_score_given"] == pytest.approx(1)


@pytest.mark.parametrize(
    "n, kept, absent", [(3, 9, {"precision", "recall"}), (40, 1, {"kid", "precision"}), (40, 9, set())]
)
def test_few_images_leave_scores_out(n: int, kept: int, absent: set[str]) -> None:
    reference = replace(reference_of(torch.randn(40, 2)), kept=torch.randn(kept, 2))
    found = scores(Given(), given(torch.randn(n, 2)), reference)
    how = protocol(Given(), reference, n)
    assert {"kid", "precision", "recall"} - {name.removesuffix("_given") for name in found} >= absent
    assert ("kid_given" in found) == isinstance(how["kid"], dict)
    assert ("precision_given" in found) == isinstance(how["prc"], dict)
    assert ("inception_score_given" in found) == (n >= 10)


def test_too_many_features_are_thinned_out_and_always_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "KEPT_FEATURES", 40)
    reference, made = reference_of(torch.randn(100, 2)), given(torch.randn(90, 2))
    found = scores(Given(), made, reference)
    assert protocol(Given(), reference, 90)["prc"] == {"neighborhood": 3, "generated": 40, "reference": 40}
    assert found == scores(Given(), made, reference)
    monkeypatch.setattr(measures, "KEPT_FEATURES", 100)
    assert scores(Given(), made, reference)["recall_given"] != found["recall_given"]
