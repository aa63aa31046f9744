"""Reference statistics: computed once and in one pass, or read from a published file; what does not fit is one line."""

import json
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from features import Given, images_of
from torch import Tensor
from toy import refusal, run

from lf.core.errors import UserError
from lf.data import Batch, Images, load
from lf.metrics import CLIP, INCEPTION, Extractor, Reference, protocol, scores
from lf.metrics import make_reference as command
from lf.metrics import reference as references
from lf.metrics.space import sources


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
    with pytest.raises(UserError, match="7 damaged images, more than limit_damaged=6"):
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
    (folder / sources()[CLIP][1]).write_bytes(clip_file.read_bytes())
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
    code, said, err = run("lf.metrics.make_reference", name, str(out), *words)
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
