"""FID and its kin: what torch-fidelity says of image files, whoever computed the features; files that are refused."""

import json
import pickle
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch_fidelity.feature_extractor_clip import CLIPVisual
from toy import refusal, run

from benchmarks.evaluate import random_inception
from lf.data import Batch, Images, load, shapes
from lf.data import reference as command
from lf.errors import UserError
from lf.metrics import CLIP, INCEPTION, Extractor, Reference, Space, joined, measures, protocol, scores
from lf.metrics import reference as references
from lf.metrics.space import SOURCES


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """NumPy's eigenvalues take many times longer where two threads share a busy core."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP (width 64, one layer, 16 features) in the format of the published files."""
    file = tmp_path_factory.mktemp("clip") / "clip.pt"
    torch.manual_seed(1)
    whole = nn.Module()
    whole.visual = CLIPVisual(16, 32, 1, 64, 8).visual
    whole.text_projection = nn.Parameter(torch.zeros(4, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and still what CLIP is published in
        torch.jit.save(torch.jit.script(whole), file)
    return file


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """InceptionV3 with random weights that keep the variance, in the format of the published file."""
    torch.manual_seed(2)
    return random_inception(tmp_path_factory.mktemp("inception") / "inception.pth")


@pytest.fixture(scope="module")
def clip(clip_file: Path) -> Extractor:
    return Extractor(CLIP, clip_file)


@pytest.fixture(scope="module")
def inception(inception_file: Path) -> Extractor:
    return Extractor(INCEPTION, inception_file)


def images_of(indices: range) -> Images:
    return replace(shapes.make(indices, resolution=32), digest=str(indices))


def files_of(images: Tensor, folder: Path) -> str:
    folder.mkdir()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{number:05}.png")
    return str(folder)


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


@dataclass
class Given(Space):
    """The features are the first pixels of the image themselves."""

    width: int = 2  # type: ignore[misc]
    name = "given"
    weights = "0"
    measures = ("fd", "kid", "prc", "isc")

    def features(self, images: Tensor) -> dict[str, Tensor]:
        return {"features": images.flatten(1)[:, : self.width].float(), "logits": images.flatten(1).float()}


def reference_of(features: Tensor) -> Reference:
    return Reference(features.double().mean(0), features.double().T.cov(), len(features), features)


def given(features: Tensor, logits: Tensor | None = None) -> dict[str, Tensor]:
    return {"features": features, "logits": torch.zeros(len(features), 4) if logits is None else logits}


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
    monkeypatch.setattr(measures, "KEPT", 40)
    reference, made = reference_of(torch.randn(100, 2)), given(torch.randn(90, 2))
    found = scores(Given(), made, reference)
    assert protocol(Given(), reference, 90)["prc"] == {"neighborhood": 3, "generated": 40, "reference": 40}
    assert found == scores(Given(), made, reference)
    monkeypatch.setattr(measures, "KEPT", 100)
    assert scores(Given(), made, reference)["recall_given"] != found["recall_given"]


class Torn(Images):
    """Images of which every tenth file is damaged; ``asked`` counts what is read."""

    def read(self, rows: Sequence[int] | Tensor, flip: Tensor | None = None) -> Batch:
        batch = super().read(rows, flip)
        valid = torch.as_tensor(rows) % 10 != 0
        return batch._replace(valid=valid, damaged=tuple(f"{row}" for row in torch.as_tensor(rows)[~valid]))


@pytest.mark.parametrize("chunk, block", [(1, 2), (7, 10), (7, 50_000), (1000, 5)])
def test_one_pass_gives_mean_and_covariance(
    chunk: int, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "CHUNK", chunk)
    monkeypatch.setattr(references, "BLOCK", block)
    data, space = images_of(range(65)), Given(width=6)
    every = space.features(data.images)["features"].double().numpy()
    found = Reference.of(data, space, tmp_path, keep=10)
    np.testing.assert_allclose(found.mu.numpy(), every.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.sigma.numpy(), np.cov(every, rowvar=False), rtol=1e-5)
    assert found.n == 65 and found.kept.shape == (10, 6)
    assert all((every == row.numpy()).all(1).any() for row in found.kept)

    assert Reference.of(data, space, tmp_path, n=20, keep=10).n == 20
    some = Reference.of(data, space, tmp_path, n=20)
    assert some.n == 20 and some.kept.shape == (20, 6) and some.digest != found.digest
    np.testing.assert_allclose(some.sigma.numpy(), np.cov(some.kept.double().numpy(), rowvar=False), rtol=1e-5)


def test_damaged_images_count_nothing(tmp_path: Path) -> None:
    data, space = Torn(**vars(images_of(range(64)))), Given(width=6)
    with pytest.raises(UserError, match="7 damaged images and limit_damaged=6"):
        Reference.of(data, space, tmp_path, limit_damaged=6)
    found = Reference.of(data, space, tmp_path, limit_damaged=7)
    rest = space.features(data.images[torch.arange(64) % 10 != 0])["features"]
    assert found.n == 57 and found.mu.numpy() == pytest.approx(rest.double().mean(0).numpy())


def test_a_reference_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, space = images_of(range(64)), Given()
    first = Reference.of(data, space, tmp_path)
    monkeypatch.setattr(Given, "features", lambda *_: pytest.fail("computed again"))
    assert Reference.of(data, space, tmp_path).digest == first.digest
    for part in ("mu", "sigma", "kept"):
        assert replace(first, **{part: 2 * getattr(first, part)}).digest != first.digest
    space.weights = "1"
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        Reference.of(data, space, tmp_path)


def test_a_published_file_gives_the_distance_alone(clip: Extractor, tmp_path: Path) -> None:
    real, made = (images_of(some) for some in (range(50), range(90, 150)))
    ours = Reference.of(real, clip, tmp_path)
    np.savez(tmp_path / "stats.npz", mu=ours.mu.numpy().astype(np.float32), sigma=ours.sigma.numpy())
    published = Reference.load(tmp_path / "stats.npz", clip)
    features = clip.features(made.images)
    found = scores(clip, features, published)
    assert found.keys() == {"fd_clip_vit_b_32"}
    assert found["fd_clip_vit_b_32"] == pytest.approx(scores(clip, features, ours)["fd_clip_vit_b_32"], rel=1e-4)
    how = protocol(clip, published, 60)
    assert how["kid"] == how["prc"] == "missing: the reference holds no features" and how["reference_n"] is None
    json.dumps(how)


def broken_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files that are no statistics of 16 features, each with words of the refusal."""
    mu, sigma = np.zeros(16), np.eye(16)
    whole: dict[str, Any] = {"mu": mu, "sigma": sigma}
    changes = {
        "no_sigma": ({"sigma": None}, "arrays mu and sigma are missing"),
        "wide": ({"mu": np.zeros(2048), "sigma": np.eye(2048)}, "width 16"),
        "askew": ({"sigma": np.zeros((16, 4))}, "width 16"),
        "nan": ({"mu": mu * np.nan}, "finite"),
        "integer": ({"mu": mu.astype(int)}, "finite"),
        "few": ({"features": np.zeros((3, 15))}, "width 16"),
        "scalar": ({"mu": np.array(1.0)}, "width 16"),
        "other": ({"meta": np.array(json.dumps({"extractor": INCEPTION}))}, "extractor=inception-v3-compat"),
        "other_weights": ({"meta": np.array(json.dumps({"weights": "ff"}))}, "weights=ff"),
        "other_size": ({"meta": np.array(json.dumps({"resolution": 256}))}, "resolution=256"),
        "pickled": ({"mu": np.array([Trap()], dtype=object)}, "cannot be read"),
    }
    for name, (change, words) in changes.items():
        file = folder / f"{name}.npz"
        np.savez(file, **{k: v for k, v in (whole | change).items() if v is not None})
        yield file, words
    good = folder / "good.npz"
    np.savez(good, **whole)
    content = good.read_bytes()
    for name, text in {"empty": b"", "text": b"mu", "torn": content[: len(content) // 2]}.items():
        (folder / f"{name}.npz").write_bytes(text)
        yield folder / f"{name}.npz", "cannot be read"
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    (folder / "flipped.npz").write_bytes(flipped)
    yield folder / "flipped.npz", "cannot be read"
    np.save(folder / "array.npy", mu)
    yield folder / "array.npy", "cannot be read"
    yield folder / "absent.npz", "no such file"
    yield folder, "no such file"


class Trap:
    """Unpickling it fails the test."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was executed",)


def test_a_damaged_or_foreign_file_is_one_line(clip: Extractor, tmp_path: Path) -> None:
    for file, words in broken_files(tmp_path):
        with pytest.raises(UserError) as refused:
            Reference.load(file, clip, resolution=64)
        assert words in str(refused.value) and str(file) in str(refused.value) and "\n" not in str(refused.value), file
    assert Reference.load(tmp_path / "good.npz", clip).n is None


def test_missing_weights_say_where_they_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name, url in ((INCEPTION, "weights-inception-2015-12-05-6726825d.pth"), (CLIP, "ViT-B-32.pt")):
        with pytest.raises(UserError) as refused:
            Extractor(name)
        assert str(tmp_path / "hub" / "checkpoints") in str(refused.value) and url in str(refused.value)
    with pytest.raises(UserError, match="its weights nowhere.pt are missing"):
        Extractor(CLIP, "nowhere.pt")
    with pytest.raises(UserError, match="did you mean 'clip-vit-b-32'"):
        Extractor("clip-vit-b32")


def test_weights_are_found_where_torch_fidelity_keeps_them(
    clip_file: Path, clip: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / SOURCES[CLIP][1]).write_bytes(clip_file.read_bytes())
    assert Extractor(CLIP).weights == clip.weights


def test_a_file_of_other_weights_is_one_line(clip_file: Path, inception_file: Path, tmp_path: Path) -> None:
    junk, trap, half = (tmp_path / name for name in ("junk", "trap", "half"))
    junk.write_bytes(b"not weights")
    trap.write_bytes(pickle.dumps(Trap()))
    half.write_bytes(inception_file.read_bytes()[:100_000])
    for name, file in (
        (INCEPTION, junk), (INCEPTION, trap), (INCEPTION, half), (INCEPTION, clip_file),
        (CLIP, junk), (CLIP, inception_file),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"no weights of {name}") as refused:
            Extractor(name, file)
        assert "\n" not in str(refused.value)


def test_the_command_as_a_user_runs_it(
    store: Path, clip: Extractor, clip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, out = f"folder:{store}/images", tmp_path / "new" / "stats.npz"
    words = [
        "resolution=32", "features=clip-vit-b-32", f"weights={clip_file}", "keep_features=20",
        "runtime.device=cpu", "runtime.threads=1", f"runtime.runs={tmp_path / 'runs'}",
    ]  # fmt: skip
    code, said, err = run("lf.data.reference", name, str(out), *words)
    assert code == 0, err
    real = load(name, 32, "train", tmp_path / "runs" / "cache")
    with np.load(out, allow_pickle=False) as file:
        assert set(file) == {"mu", "sigma", "n", "features", "meta"} and int(file["n"]) == len(real) == 48
        assert json.loads(str(file["meta"])) == {
            "data": name, "data_digest": real.digest, "resolution": 32, "extractor": CLIP, "weights": clip.weights,
        }  # fmt: skip
    reference = Reference.load(out, clip, resolution=32)
    assert f"48 images, 20 features kept, digest {reference.digest}" in said
    found = scores(clip, clip.features(real.images), reference)
    assert abs(found["fd_clip_vit_b_32"]) < 1e-3 and found["recall_clip_vit_b_32"] == 1

    before = out.read_bytes()
    command.main([name, str(out), *words])
    assert out.read_bytes() == before and [child.name for child in out.parent.iterdir()] == ["stats.npz"]
    command.main([name, str(out), *words, "n=12"])
    assert "12 images, 12 features kept" in capsys.readouterr().out
    assert "usage" in refusal(command.main, [name], capsys)
    assert "did you mean 'resolution'" in refusal(command.main, [name, str(out), "resolutoin=3"], capsys)
    assert "weights nowhere are missing" in refusal(command.main, [name, str(out), *words, "weights=nowhere"], capsys)
    assert "unknown" in refusal(command.main, ["imagnet", str(out), *words], capsys)
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal(command.main, [name, str(tmp_path / "file" / "x.npz"), *words], capsys)
