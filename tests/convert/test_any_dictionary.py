"""Any dictionary in a checkpoint file is read or refused in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lf.convert import load
from lf.core.errors import UserError
from lf.model.public import convert

NAMES = st.sampled_from(["model", "model_ema1", "optimizer", "state", "step", "epoch", "args", "net.pos_embed"])
LEAVES = (
    st.none() | st.integers(-3, 9) | st.text(max_size=3) | st.floats()
    | st.sampled_from([(), (3,), (1, 4, 8), (2, 2, 1, 1)]).map(torch.zeros)
)  # fmt: skip
KEYS = NAMES | st.sampled_from(["pos_embed", "x_embedder.proj1.weight", "dino_embedder.proj1.weight", "²", 7])
FILES = st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, max_size=5), max_leaves=12)


@settings(max_examples=150, deadline=None)
@given(FILES)
def test_only_user_errors(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    file: Path = tmp_path_factory.mktemp("checkpoint") / "any.pth"
    torch.save(content, file)
    try:
        for state in load(file)["weights"].values():
            convert({key.removeprefix("net."): value for key, value in state.items()})
    except UserError as error:
        assert "\n" not in str(error)
