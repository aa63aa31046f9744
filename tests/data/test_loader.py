"""What every step of a training sees: each image once an epoch, on any number of processes, workers and restarts."""

import multiprocessing
import os
import pickle
import tarfile
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from packed import packed, picture, pixels

from lf import data
from lf.core.errors import UserError
from lf.core.seeds import generator
from lf.data import Batch, Dataset, Shards, shapes, tars
from lf.data.loader import Damaged, batches
from lf.data.shards import WINDOW

COUNTS = (5, 1, 9, 8)  # images in each tar: 23, no multiple of the batch
BATCH = 6
STEPS = 8  # 48 images: two epochs and the beginning of a third


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    place = tmp_path_factory.mktemp("shards")
    return data.open(f"shards:{packed(place, COUNTS)}", 8, place / "cache")


def seen(source: Dataset, steps: range = range(STEPS), world: int = 1, workers: int = 0, **options: bool) -> Batch:
    """All that ``steps`` show, in the order of the steps and in each of the ranks."""
    ranks = [
        list(batches(source, BATCH, steps, 7, flip=options.get("flip", True), rank=r, world=world, workers=workers))
        for r in range(world)
    ]
    assert [len(rank) for rank in ranks] == [len(steps)] * world
    parts = [rank[step] for step in range(len(steps)) for rank in ranks]
    assert {len(part.images) for part in parts} == {BATCH // world}
    return Batch(
        torch.cat([p.images for p in parts]), torch.cat([p.labels for p in parts]), (),
        torch.cat([p.valid for p in parts]), sum((p.damaged for p in parts), ()),
    )  # fmt: skip


def same(a: Batch, b: Batch) -> bool:
    return a.images.equal(b.images) and a.labels.equal(b.labels) and a.valid.equal(b.valid) and a.damaged == b.damaged


def numbers(batch: Batch) -> list[int]:
    """Which images of `packed` these are, not mirrored."""
    every = pixels([picture(number) for number in range(sum(COUNTS))]).flatten(1)
    at = (batch.images.flatten(1)[:, None] == every).all(-1)
    assert at.sum(1).eq(1).all(), "an image that nobody packed"
    return at.int().argmax(1).tolist()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_each_image_comes_once_an_epoch_whoever_reads_it(world: int, shards: Dataset) -> None:
    alone = seen(shards, flip=False)
    order, n = numbers(alone), len(shards)
    assert sorted(order[:n]) == sorted(order[n : 2 * n]) == list(range(n)) and order[:n] != order[n : 2 * n]
    assert alone.labels.tolist() == [number % 3 for number in order] and alone.valid.all()
    for workers in range(3):
        assert same(seen(shards, world=world, workers=workers, flip=False), alone), workers


@pytest.mark.parametrize(("world", "workers"), [(1, 1), (2, 0), (3, 2)])
def test_going_on_within_an_epoch_on_another_number_of_processes_shows_what_was_left(
    world: int, workers: int, shards: Dataset
) -> None:
    whole, stop = seen(shards), 5
    rest = seen(shards, range(stop, STEPS), world, workers)
    assert rest.images.equal(whole.images[stop * BATCH :]) and rest.labels.equal(whole.labels[stop * BATCH :])


def test_half_of_the_images_are_mirrored_and_nothing_else_changes(shards: Dataset) -> None:
    plain, mixed = (seen(shards, range(40), flip=flip) for flip in (False, True))
    mirrored = (mixed.images == plain.images.flip(-1)).flatten(1).all(1)
    assert ((mixed.images == plain.images).flatten(1).all(1) ^ mirrored).all()
    assert 90 < mirrored.sum() < 150  # of 240


def test_images_in_memory_come_in_the_order_of_the_shuffled_epochs() -> None:
    # Written out image by image, as the trainer did it before there was a loader: results on disk rest on this order.
    images = shapes.make(range(10), resolution=8)
    orders = [torch.randperm(10, generator=generator("epoch", 7, epoch)) for epoch in range(5)]
    rows = torch.stack([orders[place // 10][place % 10] for place in range(STEPS * BATCH)])
    for workers in (0, 2):
        got = seen(images, workers=workers, flip=False)
        assert got.images.equal(images.images[rows]) and got.labels.equal(images.labels[rows])


def test_a_batch_that_cannot_be_shared_evenly_is_one_line(shards: Dataset) -> None:
    with pytest.raises(UserError, match="batch=6: must be a multiple of the number of processes, 4"):
        batches(shards, BATCH, range(1), 0, flip=False, world=4)


def test_workers_end_when_nobody_wants_more_and_leave_the_random_numbers_alone(shards: Dataset) -> None:
    before = torch.get_rng_state()
    loader = batches(shards, BATCH, range(1000), 0, flip=True, workers=2)
    next(loader)
    assert len(multiprocessing.active_children()) == 2
    del loader
    assert torch.get_rng_state().equal(before)
    assert not multiprocessing.active_children()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60).filter(sum), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_reads_from_few_shards_at_a_time(counts: list[int], epoch: int, seed: int) -> None:
    table = {"label": torch.zeros(sum(counts)), "shard": torch.repeat_interleave(torch.tensor(counts))}
    source = Shards("", "", ("0",), 8, tars.Tars([Path(str(i)) for i in range(len(counts))]), table)
    order = source.order(epoch, seed)
    assert sorted(order.tolist()) == list(range(sum(counts))) and order.equal(source.order(epoch, seed))
    shard = table["shard"][order].tolist()
    begun = {s: shard.index(s) for s in set(shard)}
    ended = {s: len(shard) - shard[::-1].index(s) for s in set(shard)}
    assert max(sum(begun[s] <= at < ended[s] for s in begun) for at in range(len(shard))) <= WINDOW


def test_epochs_and_seeds_are_shuffled_differently_across_and_within_shards() -> None:
    shard = torch.arange(40).repeat_interleave(20)
    source = Shards("", "", ("0",), 8, tars.Tars([Path(str(i)) for i in range(40)]), {"label": shard, "shard": shard})
    orders = [source.order(epoch, seed) for epoch, seed in product(range(2), range(2))]
    assert len({tuple(order.tolist()) for order in orders}) == 4
    first = [set(shard[order[:320]].tolist()) for order in orders]
    assert all(len(window) == WINDOW for window in first) and len(set(map(frozenset, first))) == 4
    changes = sum(a != b for a, b in pairwise(shard[orders[0]].tolist()))
    assert changes > 600  # of 799: neighbours come from different shards


@pytest.fixture
def hurt(tmp_path: Path) -> Dataset:
    """The same shards; image 3 has its bytes overwritten, image 7 is cut to a third, image 20 is no image."""
    pattern = packed(tmp_path, COUNTS)
    for file in sorted(tmp_path.glob("*.tar")):
        with tarfile.open(file) as opened:
            places = {int(m.name[5:10]): (m.offset_data, m.size) for m in opened if m.name.endswith(".png")}
        with file.open("r+b") as stream:
            for number, (keep, fill) in {3: (0.5, b"\xff"), 7: (0.33, b"\0"), 20: (0, b"x")}.items():
                if number in places:
                    offset, size = places[number]
                    stream.seek(offset + int(keep * size))
                    stream.write(fill * (size - int(keep * size)))
    return data.open(f"shards:{pattern}", 8, tmp_path / "cache")


def test_damaged_images_are_black_not_valid_and_named_and_the_others_are_as_they_were(
    hurt: Dataset, shards: Dataset
) -> None:
    got, whole, bad = hurt.read(range(23)), shards.read(range(23)), [3, 7, 20]
    assert (~got.valid).nonzero()[:, 0].tolist() == bad and not got.images[bad].any()
    assert got.images[got.valid].equal(whole.images[got.valid]) and got.labels.equal(whole.labels)
    assert [name.split(": ")[0] for name in got.damaged] == [
        "part-000.tar:some/00003", "part-002.tar:some/00007", "part-003.tar:some/00020"
    ]  # fmt: skip
    assert same(seen(hurt, workers=2), seen(hurt)) and len(seen(hurt).damaged) >= 6


def test_damaged_images_are_told_once_and_put_up_with_up_to_a_limit(hurt: Dataset) -> None:
    damaged = Damaged(3)
    told = [name for batch in batches(hurt, BATCH, range(20), 0, flip=False) for name in damaged.see(batch)]
    assert len(told) == len(set(told)) == 3
    with pytest.raises(
        UserError, match=r"3 damaged images, more than limit_damaged=2; the last: part-00.*:some/000"
    ) as caught:
        damaged = Damaged(2)
        for batch in batches(hurt, BATCH, range(20), 0, flip=False):
            damaged.see(batch)
    assert "\n" not in str(caught.value)


def test_a_shard_that_goes_missing_is_damage(tmp_path: Path) -> None:
    source = data.open(f"shards:{packed(tmp_path, [2, 2])}", 8, tmp_path / "cache")
    (tmp_path / "part-001.tar").unlink()
    assert source.read([0, 2]).valid.tolist() == [True, False]
    assert source.read([3]).damaged == ("part-001.tar:some/00003: No such file or directory",)


def test_many_shards_are_not_all_open_at_once(tmp_path: Path) -> None:
    source = data.open(f"shards:{packed(tmp_path, [1] * 70)}", 8, tmp_path / "cache")
    before = len(os.listdir("/proc/self/fd"))
    images = source.read(range(70)).images
    assert len(os.listdir("/proc/self/fd")) - before == tars.OPEN < 70
    assert source.read(range(70)).images.equal(images)
    copy = pickle.loads(pickle.dumps(source))  # as a spawned worker gets it
    assert len(os.listdir("/proc/self/fd")) - before == tars.OPEN and copy.read([69]).images.equal(images[69:])
    del source, copy
    assert len(os.listdir("/proc/self/fd")) == before
