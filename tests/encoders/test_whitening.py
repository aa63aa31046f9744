"""Whitening: statistics of the latents, measured once, from every image, or given; never those of something else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from vits import CPU, DATA, LATENT_STD, PATCH, SMALL, moco_net, moco_state, randomised, small

from lf.core.errors import UserError
from lf.data import Batch, Dataset, Images, shapes, to_float
from lf.encoders.whitening import RunningVariance, measure


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.sampled_from(["channel", "element"]),
    st.sampled_from([0.0, 3.0, 1e4]),
)
def test_moments_merged_from_batches_of_any_size_are_numpys(sizes: list[int], per: Any, offset: float) -> None:
    x = torch.randn(sum(sizes), 3, 2, 2, generator=torch.Generator().manual_seed(sum(sizes))) + offset
    moments = RunningVariance(per)
    for part in x.split(sizes):
        moments.add(part)
    axis, shape = (0, (3, 2, 2)) if per == "element" else ((0, 2, 3), (3, 1, 1))
    found = moments.result()
    plain = x.double().numpy()
    np.testing.assert_allclose(found["mean"].numpy(), plain.mean(axis).reshape(shape), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found["var"].numpy(), plain.var(axis).reshape(shape), rtol=1e-6, atol=1e-9)


class Damaged(Dataset):
    """Ten images; those in ``bad`` are damaged, and what stands in for them is black."""

    name, digest, classes = "damaged", "0", ("a",)

    def __init__(self, bad: Sequence[int]):
        self.bad, self.asked = set(bad), list[int]()
        self.images = torch.randint(0, 256, (10, 3, 4, 4), dtype=torch.uint8)

    @property
    def resolution(self) -> int:
        return 4

    def __len__(self) -> int:
        return 10

    def read(self, rows: Sequence[int] | Tensor, flip: Tensor | None = None) -> Batch:
        rows = torch.as_tensor(rows)
        self.asked += rows.tolist()
        valid = torch.tensor([row not in self.bad for row in rows.tolist()])
        return Batch(self.images[rows] * valid.view(-1, 1, 1, 1), torch.zeros(len(rows)).long(), (), valid)


@pytest.mark.parametrize("batch", [1, 3, 4, 10, 64])
def test_measuring_reads_every_image_once_and_leaves_damaged_ones_out(batch: int) -> None:
    data = Damaged([0, 5, 6])
    found, count = measure(lambda x: x, data, "element", CPU, batch=batch)
    good = to_float(data.images[[1, 2, 3, 4, 7, 8, 9]]).double()
    assert data.asked == list(range(10)) and count == 7
    torch.testing.assert_close(found, {"mean": good.mean(0).float(), "var": good.var(0, correction=0).float()})


def test_measuring_some_images_spreads_them_over_the_set() -> None:
    data = Damaged([])
    _, count = measure(lambda x: x, data, "channel", CPU, batch=3, n=4)
    assert data.asked == [0, 2, 5, 7] and count == 4
    assert measure(lambda x: x, data, "channel", CPU, n=99)[1] == 10


def test_measuring_nothing_but_damaged_images_is_refused() -> None:
    with pytest.raises(UserError, match="none of 10 images"):
        measure(lambda x: x, Damaged(range(10)), "channel", CPU)


@pytest.mark.parametrize("per", ["channel", "element"])
def test_latents_of_the_data_they_were_measured_on_are_white(per: Any, place: Path, tmp_path: Path) -> None:
    latents = small("mocov3", place, per=per).load(DATA, PATCH, tmp_path)(to_float(DATA.images)).double()
    axis = 0 if per == "element" else (0, 2, 3)
    torch.testing.assert_close(latents.mean(axis), torch.zeros_like(latents.mean(axis)), rtol=0, atol=1e-4)
    std = latents.std(axis, correction=0)
    torch.testing.assert_close(std, torch.full_like(std, LATENT_STD), rtol=1e-2, atol=0)


def test_statistics_are_measured_once_for_the_same_weights_and_data(place: Path, tmp_path: Path) -> None:
    def files_after(data: Images = DATA, patch: int = PATCH, where: Path = place, **changed: Any) -> int:
        small("mocov3", where, **changed).load(data, patch, tmp_path)
        return len(list(tmp_path.glob("whitening-*.safetensors")))

    assert files_after() == 1
    (file,) = tmp_path.glob("whitening-*.safetensors")
    written = file.stat().st_mtime_ns
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "moco").write_bytes((place / "moco").read_bytes())
    assert files_after(loss_weight=0.5) == files_after(clamp=1.0) == files_after(where=tmp_path / "elsewhere") == 1
    assert file.stat().st_mtime_ns == written
    assert files_after(per="element") == 2 and files_after(patch=32) == 3
    assert files_after(data=shapes.make(range(20), resolution=64)) == 4
    torch.save({"state_dict": moco_state(randomised(moco_net()), 24)}, tmp_path / "elsewhere" / "moco")
    assert files_after(where=tmp_path / "elsewhere") == 5


@pytest.mark.parametrize(
    ("stats", "cause"),
    [
        ({"mean": torch.zeros(24, 1, 1)}, "no tensor 'var'"),
        (
            {"mean": torch.zeros(24, 4, 4), "var": torch.ones(24, 4, 4)},
            r"mean has shape \(24, 4, 4\), expected \(24, 1, 1\)",
        ),
        ([torch.zeros(3)], "holds a list"),
    ],
)
def test_statistics_of_something_else_are_refused(stats: Any, cause: str, place: Path, tmp_path: Path) -> None:
    torch.save(stats, tmp_path / "stat.pt")
    with pytest.raises(UserError, match=rf"mocov3.stats=.*stat\.pt: .*{cause}"):
        small("mocov3", place, stats=str(tmp_path / "stat.pt")).load(DATA, PATCH, tmp_path)


def test_missing_statistics_are_named_with_the_command_that_makes_them(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dinov2.stats=nowhere.pt: no such file; python -m lf.encoders.whiten dinov2"):
        small("dinov2", place, stats="nowhere.pt").load(DATA, PATCH, tmp_path)


def test_loading_leaves_the_global_random_state_of_training_alone(place: Path, tmp_path: Path) -> None:
    for name in SMALL:
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        small(name, place).load(DATA, PATCH, tmp_path)
        assert torch.rand(1).equal(expected), name
