"""What would make a GPU's host wait, or mix devices, found without a GPU.

On `meta` a tensor has no values, so who asks for one gets an error, as does who mixes it with tensors of the CPU.
"""

from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from toy import LATENT, training

from lf.config import Sampling, Training
from lf.data import to_uint8
from lf.diffusion.solver import sample
from lf.model.denoiser import LatentForcing
from lf.model.velocity import GuidedVelocity
from lf.schedules import Times
from lf.train import average

EXPERTS = [LATENT, "schedule=cascaded", "network.expert_width=32"]
KINDS = [
    [LATENT, "schedule=cascaded"], EXPERTS, ["schedule=pixel_only"],
    [LATENT, "schedule=cascaded", "network.class_tokens=2", "network.class_token_block=0"],
]  # fmt: skip


class Waits(TorchDispatchMode):
    """Refuses copies that make the host wait until the device has them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and args[0].is_cpu and not kwargs.get("non_blocking"):
            assert torch.device(kwargs.get("device") or "cpu").type == "cpu", "a copy that waits"
        return func(*args, **kwargs)


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not know `meta`."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


def anything(config: Training) -> tuple[list[Tensor], Tensor]:
    """A batch of every stream, and labels."""
    x = [torch.empty(8, *stream.shape, device="meta") for stream in config.streams]
    return x, torch.empty(8, dtype=torch.long, device="meta")


def test_who_waits_is_found() -> None:
    x, t = torch.empty(3, device="meta"), torch.zeros(3)
    with Waits():
        with pytest.raises(AssertionError, match="a copy that waits"):
            t.to("meta")
        with pytest.raises(RuntimeError):
            x.sum().item()
        with pytest.raises(RuntimeError):
            x + t
        assert t.to("meta", non_blocking=True).is_meta


@pytest.mark.parametrize("words", KINDS, ids=" ".join)
def test_no_part_of_a_training_step_waits(words: list[str]) -> None:
    config = training(*words)
    model = LatentForcing(config, 10).to("meta")
    ema, (x, y), (noise, _) = deepcopy(model.network), anything(config), anything(config)
    drawn = config.schedule.sample(8, generator=torch.Generator().manual_seed(0))
    times = Times(drawn.t.to("meta"), drawn.weight)  # weights stay on the CPU
    with Waits():
        losses = model.loss(x, noise, times, y)
        losses[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        average(ema, model.network, 0.9)
    assert losses.shape == (1 + len(x),) and all(p.grad is not None for p in model.network.blocks.parameters())


@pytest.mark.parametrize("words", KINDS, ids=" ".join)
@pytest.mark.parametrize("kind", ["none", "cfg", "autoguidance", "cfg_then_autoguidance"])
def test_no_step_of_sampling_waits(kind: str, words: list[str]) -> None:
    config = training(*words)
    model = LatentForcing(config, 10).to("meta")
    noise, y = anything(config)
    guidance: dict[str, Any] = {"kind": kind}
    if kind != "none":
        guidance["scale"] = {stream.name: 1.5 for stream in config.streams}
    if "autoguidance" in kind:
        guidance["guide"] = "weak"
    sampling = Sampling.model_validate({"steps": 4, "guidance": guidance})
    path = sampling.path_for(config)
    weak = deepcopy(model.network) if "autoguidance" in kind else None
    with Waits():
        velocity = GuidedVelocity(model.network, weak, sampling.guidance, sampling.t_clip, y, model.classes)
        z = sample(velocity, noise, path, sampling.solver, (0.1, noise))
        assert to_uint8(z[0]).shape == (8, 3, 16, 16)
