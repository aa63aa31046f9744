"""Damage in a checkpoint or in a cached file is found wherever it is, named, and not used."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from toy import training

from lf.core.errors import UserError
from lf.model.denoiser import LatentForcing
from lf.storage import checkpoint, verified
from lf.storage.cache import made_once, read_cached

TENSORS = {
    "raw.weight": torch.linspace(-1, 1, 30).reshape(5, 6),
    "ema.weight": torch.linspace(0, 1, 30, dtype=torch.bfloat16).reshape(5, 6),
    "optimizer.0.step": torch.tensor(7.0),
    "losses": torch.arange(12.0).reshape(4, 3),
    "empty": torch.zeros(0, 3),
}
ABOUT = {"step": "7", "seconds": "1.5"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("whole") / "checkpoint.safetensors"
    verified.write(file, TENSORS, ABOUT)
    return file.read_bytes()


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype and found[name].equal(tensor) for name, tensor in expected.items()
    )


def test_what_is_written_is_read_whole_or_by_set(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.safetensors"
    verified.write(file, TENSORS, ABOUT)
    found, about = verified.read(file)
    assert equal(found, TENSORS) and about == ABOUT
    assert equal(verified.read(file, "ema")[0], {"ema.weight": TENSORS["ema.weight"]})


@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4), st.booleans()
)
def test_flipped_bytes_are_found_or_change_nothing(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[float, int]], in_header: bool
) -> None:
    header = 8 + int.from_bytes(whole[:8], "little")
    harmed = bytearray(whole)
    for place, mask in flips:
        first, size = (0, header) if in_header else (header, len(whole) - header)
        harmed[first + int(place * size)] ^= mask
    file = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    file.write_bytes(harmed)
    try:
        found, about = verified.read(file)
    except verified.Damaged:
        return
    assert equal(found, TENSORS) and about == ABOUT, "a space for a space in the header, or a byte flipped twice"


def test_every_byte_of_the_data_counts_and_a_set_answers_for_itself_alone(whole: bytes, tmp_path: Path) -> None:
    file, header = tmp_path / "flipped.safetensors", 8 + int.from_bytes(whole[:8], "little")
    found = dict.fromkeys(("raw", "ema", "optimizer", "losses"), 0)
    for place in range(header, len(whole)):
        harmed = bytearray(whole)
        harmed[place] ^= 0x10
        file.write_bytes(harmed)
        with pytest.raises(verified.Damaged) as all_of_it:
            verified.read(file)
        for name in found:
            if name in str(all_of_it.value):
                found[name] += 1
                with pytest.raises(verified.Damaged):
                    verified.read(file, name)
            else:
                verified.read(file, name)
    assert found == {"raw": 120, "ema": 60, "optimizer": 4, "losses": 48}


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 200, -1])
def test_a_file_that_was_cut_is_found(whole: bytes, length: int, tmp_path: Path) -> None:
    file = tmp_path / checkpoint.NAME
    file.write_bytes(whole[:length])
    with pytest.raises(UserError, match=f"cannot read checkpoint {file}: .*; it is left unchanged"):
        checkpoint.read(file)


def test_a_file_without_digests_is_read_as_before(tmp_path: Path) -> None:
    file = tmp_path / "old.safetensors"
    save_file(TENSORS, file, {"step": "7"})
    assert equal(checkpoint.read(file)[0], TENSORS) and checkpoint.read(file)[1] == 7
    save_file(TENSORS, file, {"step": "7", "dagests": json.dumps({})})
    with pytest.raises(UserError, match="its header is damaged"):
        checkpoint.read(file)


@pytest.mark.parametrize(
    ("row", "previous", "remedy"),
    [
        (False, True, "; it is left unchanged$"),
        (True, True, r"remove .*row\.json and rerun its training, which resumes from previous\.safetensors"),
        (True, False, r"remove .*row\.json and checkpoint\.safetensors, and rerun its training$"),
    ],
)
def test_a_damaged_end_of_a_training_says_what_to_do(
    whole: bytes, row: bool, previous: bool, remedy: str, tmp_path: Path
) -> None:
    file = tmp_path / checkpoint.NAME
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for name, there in (("row.json", row), (checkpoint.PREVIOUS, previous)):
        if there:
            (tmp_path / name).touch()
    with pytest.raises(UserError, match=remedy):
        checkpoint.read(file)


def test_a_damaged_checkpoint_does_not_replace_the_good_one_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    for step in (1, 2):
        checkpoint.save(tmp_path, network, [], optimizer, step, torch.zeros(4), 10.0 * step)
    file, before = tmp_path / checkpoint.NAME, (tmp_path / checkpoint.PREVIOUS).read_bytes()
    harmed = bytearray(file.read_bytes())
    harmed[-5] ^= 1
    file.write_bytes(harmed)
    step, _, seconds = checkpoint.restore(tmp_path, network, [], optimizer)
    assert (step, seconds) == (1, 10.0)
    assert f"{file}: damaged: the digest of raw" in (said := capsys.readouterr().err) and "step 1" in said
    checkpoint.save(tmp_path, network, [], optimizer, 3, torch.zeros(4))
    assert (tmp_path / checkpoint.PREVIOUS).read_bytes() == before and checkpoint.read(file)[1] == 3
    checkpoint.save(tmp_path, network, [], optimizer, 4, torch.zeros(4))
    assert checkpoint.read(tmp_path / checkpoint.PREVIOUS)[1] == 3


def test_a_copied_network_whose_weights_are_not_those_of_its_config_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    LatentForcing(training(), classes=10).save_pretrained(tmp_path)
    LatentForcing.from_pretrained(tmp_path)
    file = tmp_path / checkpoint.NAME
    file.write_bytes(file.read_bytes()[:-1] + b"\x42")
    with pytest.raises(UserError, match="its SHA-256 is not the one in config.json"):
        LatentForcing.from_pretrained(tmp_path)


@pytest.mark.parametrize("harm", ["empty", "cut", "flipped", "garbage"])
def test_a_damaged_cached_file_is_made_again(harm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, made = tmp_path / "cached-0.safetensors", []

    def make() -> dict[str, Tensor]:
        made.append(1)
        return {"a": torch.ones(100)}

    made_once(file, make)
    good = file.read_bytes()
    file.write_bytes(
        {"empty": b"", "cut": good[:-9], "flipped": good[:-9] + b"\x01" + good[-8:], "garbage": b"{}" * 300}[harm]
    )
    with pytest.raises(UserError, match="remove it, and it is made again"):
        read_cached(file)
    assert made_once(file, make)["a"].equal(torch.ones(100)) and len(made) == 2 and file.read_bytes() == good
    assert f"warning: {file}: " in capsys.readouterr().err
    made_once(file, make)
    assert len(made) == 2


def test_a_single_value_of_any_stride_is_written(tmp_path: Path) -> None:
    verified.write(tmp_path / "x", {"one": torch.arange(9).reshape(3, 3)[:1, 1]})
    assert verified.read(tmp_path / "x")[0]["one"].tolist() == [1]
