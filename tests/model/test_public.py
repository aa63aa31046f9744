"""`lf` against `published.py`, an independent plain implementation of the released networks, samplers and losses."""

from functools import partial

import published_paths
import pytest
import torch
from published import PublicNet, randomize
from torch import Tensor

from lf.config import Sampling, Training
from lf.convert import convert
from lf.core.parsing import parse
from lf.data import to_uint8
from lf.diffusion.solver import sample
from lf.diffusion.streams import Stream
from lf.model.denoiser import LatentForcing
from lf.model.velocity import GuidedVelocity
from lf.network import Network, NetworkConfig
from lf.schedules import Times

SMALL = {"image": 16, "patch": 4, "width": 32, "depth": 3, "heads": 2, "bottleneck": 16, "classes": 5, "class_block": 1}
S = {"width": 384, "depth": 12, "heads": 6, "bottleneck": 128, "class_block": 4}
B = S | {"width": 768, "heads": 12}
LM = {"width": 1024, "depth": 20, "heads": 16, "bottleneck": 128, "class_block": 8}
L = LM | {"depth": 24}


# --- networks


@pytest.mark.parametrize(
    ("size", "parts", "parameters"),
    [
        (S, {}, 33_319_296),
        (S, {"latent": 768}, 34_009_344),
        (S, {"latent": 768, "expert": 1024}, 96_900_048),
        (B, {}, 131_123_712),
        (B, {"repa": 768}, 138_468_608),
        (B, {"latent": 768}, 132_699_648),
        (B, {"latent": 768, "expert": 768}, 177_586_944),
        (LM, {"latent": 768, "expert": 1024}, 465_407_456),
        (L, {}, 458_877_664),
        (L, {"repa": 768}, 466_746_848),
        (L, {"latent": 768}, 461_208_032),
    ],
)
def test_the_plain_network_has_the_published_number_of_parameters(size: dict, parts: dict, parameters: int) -> None:
    with torch.device("meta"):
        net = PublicNet(image=256, patch=16, classes=1000, **size, **parts)
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == parameters


def ours(net: PublicNet) -> Network:
    """The converted network."""
    found, tensors = convert(net.state_dict())
    pixels = Stream("pixels", 3, found.resolution, found.network["patch"])
    latent = [Stream("latent", found.latent, pixels.grid, 1)] if found.latent else []
    blocks = {"class_token_block": net.class_block, "repa_block": net.class_block if net.repa else None}
    network = Network(NetworkConfig(**found.network | blocks), [pixels, *latent], found.classes)
    network.load_state_dict(tensors)
    return network.eval()


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({}, id="JiT"),
        pytest.param({"class_tokens": 0}, id="JiT without class tokens"),
        pytest.param({"repa": 24}, id="JiT+REPA"),
        pytest.param({"latent": 12}, id="LF"),
        pytest.param({"latent": 7, "image": 32}, id="LF, fused attention"),  # more tokens than plain attention takes
        pytest.param({"latent": 12, "expert": 64}, id="LF, wider experts"),
        pytest.param({"latent": 12, "expert": 16}, id="LF, narrower experts"),
        pytest.param(
            {"latent": 12, "expert": 48, "width": 48, "depth": 7, "class_block": 5, "class_tokens": 6}, id="LM"
        ),
        pytest.param({"image": 256, "patch": 16, "classes": 1000} | B, id="JiT-B/16"),
    ],
)
def test_networks_are_equal(parts: dict) -> None:
    net = randomize(PublicNet(**SMALL | parts))
    network = ours(net)
    batch = 1 if net.patch == 16 else 3
    z = [torch.randn(batch, *stream.shape) for stream in network.streams]
    t = torch.rand(batch, len(z))
    y = torch.tensor([0, 5, 3])[:batch]  # 5 is the null label
    with torch.no_grad():
        expected, tokens = net(z, list(t.T), y)
        found = network(z, t, y)
    for a, b in zip(found.x, expected, strict=True):
        assert b.std() > 0.1, "an output that hardly depends on anything"
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    assert (tokens is None) == (net.repa == 0)
    if tokens is not None:
        torch.testing.assert_close(found.repa, tokens, rtol=0, atol=1e-5)


def test_every_tensor_of_a_network_counts() -> None:
    """No tensor of the reference is left out of the comparison above, nor could two be swapped unnoticed."""
    net = randomize(PublicNet(**SMALL, latent=12, expert=64))
    z, t, y = [torch.randn(1, 3, 16, 16), torch.randn(1, 12, 4, 4)], torch.rand(1, 2), torch.tensor([2])
    out, _ = net(z, list(t.T), y)
    sum(x.square().sum() for x in out).backward()
    still = [name for name, weight in net.named_parameters() if weight.requires_grad and not weight.grad.any()]
    assert not still


# --- paths


def config(latent: bool, network: dict | None = None, **training: object) -> Training:
    """A training over the streams of the small networks."""
    values = {"latents": [{"name": "pixels", "cells": 2, "loss_weight": 0.333}]} if latent else {}
    sizes = {"depth": 3, "width": 32, "heads": 2, "bottleneck": 16, "patch": 4, "class_token_block": 1}
    values |= {"data": "", "resolution": 16, "network": sizes | (network or {}), "dtype": "float32"}
    return parse(Training, {**values, "steps": 1, "batch": 1, "lr": 1.0, **training})


PATHS = [
    ({"name": "cascaded"}, {}, published_paths.cascaded_path),
    ({"name": "cascaded", "latent_max": 0.9}, {}, partial(published_paths.cascaded_path, latent_max=0.9)),
    ({"name": "cascaded"}, {"pixels_latent": 0.575}, partial(published_paths.cascaded_path, shift_dino=0.575)),
    (
        {"name": "cascaded", "latent_max": 0.8},
        {"pixels_latent": 0.575, "pixels": 1.7},
        partial(published_paths.cascaded_path, latent_max=0.8, shift_dino=0.575, shift_pixel=1.7),
    ),
    *(
        ({"name": "offset", "offset": offset}, {}, partial(published_paths.offset_path, offset=offset))
        for offset in (-0.5, -0.1, 0.1, 0.3, 0.9)
    ),
    *(
        ({"name": "shifted", "alpha": a, "offset": o}, {}, partial(published_paths.shifted_path, alpha=a, offset=o))
        for a, o in [*((a, 0) for a in (1 / 64, 1 / 9, 1 / 4, 1, 4, 9, 16, 64)), (4, 0.2), (9, -0.3), (1 / 4, 0.5)]
    ),
]


@pytest.mark.parametrize("steps", [2, 10, 50])
@pytest.mark.parametrize(("path", "shift", "plain"), PATHS, ids=[f"{path} {shift}" for path, shift, _ in PATHS])
def test_paths_are_equal(path: dict, shift: dict, plain: partial, steps: int) -> None:
    sampling = parse(Sampling, {"path": path, "shift": shift, "steps": steps})
    found = sampling.path_for(config(latent=True))
    torch.testing.assert_close(found, torch.tensor(plain(steps), dtype=torch.float64), rtol=0, atol=1e-6)


def test_the_path_of_jit_is_equal() -> None:
    found = Sampling(steps=50).path_for(config(latent=False))
    torch.testing.assert_close(
        found, torch.tensor(published_paths.pixel_only_path(50), dtype=torch.float64), rtol=0, atol=1e-6
    )


# --- guided trajectories


def bundle(net: PublicNet, training: Training) -> LatentForcing:
    """The converted network as a model that draws images."""
    model = LatentForcing(training, classes=SMALL["classes"])
    model.network.load_state_dict(convert(net.state_dict())[1])
    return model.eval().requires_grad_(False)


SYSTEM = {"pixels": 1.5, "pixels_latent": 2.9}
INTERVALS = {"pixels_latent": (0.06, 1), "pixels": (0, 0.77)}  # no step begins on a bound: rounding would decide there
TRAJECTORIES = [
    pytest.param({"name": "cascaded"}, {}, {"kind": "none"}, id="cascaded"),
    pytest.param({"name": "cascaded"}, {}, {"kind": "cfg", "scale": SYSTEM}, id="cascaded, cfg"),
    pytest.param({"name": "cascaded"}, {}, {"kind": "autoguidance", "scale": SYSTEM}, id="cascaded, autoguidance"),
    pytest.param(
        {"name": "cascaded", "latent_max": 0.9},
        {"pixels_latent": 0.575},
        {"kind": "cfg_then_autoguidance", "scale": SYSTEM, "interval": INTERVALS},
        id="cascaded, cfg then autoguidance",
    ),
    *(
        pytest.param(path, {}, {"kind": "cfg_then_autoguidance", "scale": SYSTEM, "switch": switch}, id=label)
        for label, path, switch in (
            ("never by the guide", {"name": "cascaded", "latent_max": 0.9}, 0.999),
            ("by the guide from the end of the latent", {"name": "cascaded"}, 0.999),
            ("by the guide while the latent moves", {"name": "shifted", "alpha": 9}, 0.83),
        )
    ),
    pytest.param({"name": "shifted", "alpha": 9}, {}, {"kind": "cfg", "scale": SYSTEM}, id="shifted, cfg"),
    pytest.param(
        {"name": "shifted", "alpha": 1 / 4},
        {},
        {"kind": "autoguidance", "scale": SYSTEM, "interval": {"pixels": (0.33, 0.87)}},
        id="shifted, autoguidance",
    ),
    pytest.param(
        {"name": "offset", "offset": 0.4}, {}, {"kind": "cfg_then_autoguidance", "scale": SYSTEM}, id="offset, both"
    ),
    pytest.param(
        {"name": "shifted", "alpha": 4, "offset": 0.2}, {}, {"kind": "cfg", "scale": SYSTEM}, id="with offset"
    ),
]


def plain_path(path: dict, shift: dict, steps: int) -> list[tuple[float, ...]]:
    parameters = {key: value for key, value in path.items() if key != "name"}
    parameters |= {"shift_dino": shift["pixels_latent"]} if shift else {}
    return getattr(published_paths, f"{path['name']}_path")(steps, **parameters)


@pytest.mark.parametrize(("path", "shift", "guidance"), TRAJECTORIES)
def test_guided_trajectories_are_equal(path: dict, shift: dict, guidance: dict) -> None:
    strong = randomize(PublicNet(**SMALL, latent=12, expert=64), seed=1)
    weak = randomize(PublicNet(**SMALL | {"depth": 2}, latent=12), seed=2)
    training = config(latent=True, network={"expert_width": 64})
    model, guide = bundle(strong, training), bundle(weak, config(latent=True, network={"depth": 2}))
    named = {"guide": "weak"} if "autoguidance" in guidance["kind"] else {}
    sampling = parse(Sampling, {"path": path, "shift": shift, "steps": 10, "guidance": guidance | named})
    noise, y = model.noise(range(3), seed=0), torch.tensor([0, 1, 4])

    intervals = guidance.get("interval", {})
    expected = published_paths.sample(
        strong,
        noise,
        y,
        plain_path(path, shift, 10),
        null=5,
        kind=guidance["kind"],
        scales=tuple(guidance.get("scale", {}).get(name, 1.0) for name in SYSTEM),
        intervals=tuple(intervals.get(name, (0.0, 1.0)) for name in SYSTEM),
        guide=weak,
        switch=guidance.get("switch"),
    )
    states: list[list[Tensor]] = []
    guided = GuidedVelocity(model.network, guide.network, sampling.guidance, sampling.t_clip, y, null=5)

    def velocity(z: list[Tensor], t: list[float], moves: list[bool]) -> list[Tensor | None]:
        states.append(z)
        return guided(z, t, moves)

    end = sample(velocity, noise, sampling.path_for(training), sampling.solver)
    found = [*states[2::2], end]  # a step asks twice, the last one once
    assert len(found) == len(expected) == 10
    for a, b in zip(found, expected, strict=True):
        for one, other in zip(a, b, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
    images, _ = model.images(range(3), sampling, labels=y, guide=guide)
    assert (images.int() - to_uint8(expected[-1][0]).int()).abs().max() <= 1


def test_the_trajectory_of_jit_is_equal() -> None:
    net = randomize(PublicNet(**SMALL))
    model = bundle(net, config(latent=False))
    sampling = parse(
        Sampling, {"steps": 10, "guidance": {"kind": "cfg", "scale": {"pixels": 2.9}, "interval": {"pixels": (0.1, 1)}}}
    )
    noise, y = model.noise(range(3), seed=0), torch.tensor([0, 1, 4])
    expected = published_paths.sample(
        net, noise, y, published_paths.pixel_only_path(10), null=5, kind="cfg", scales=(2.9,), intervals=((0.1, 1.0),)
    )
    velocity = GuidedVelocity(model.network, None, sampling.guidance, sampling.t_clip, y, null=5)
    (found,) = sample(velocity, noise, sampling.path_for(model.config), sampling.solver)
    torch.testing.assert_close(found, expected[-1][0], rtol=0, atol=1e-4)


# --- training targets


@pytest.mark.parametrize("t_clip", [0.05, 1 / 3])
def test_losses_and_their_gradients_are_equal(t_clip: float) -> None:
    net = randomize(PublicNet(**SMALL, latent=12))
    schedule = {"name": "independent" if t_clip > 0.05 else "shifted", "t_clip": t_clip}
    model = bundle(net, config(latent=True, schedule=schedule)).requires_grad_()
    x = [torch.randn(6, *stream.shape) for stream in model.streams]
    noise = [torch.randn_like(a) for a in x]
    t = torch.tensor([[0, 0], [0.3, 0.9], [0.99, 0.2], [1, 1], [0.94, 0.96], [0.6, 0.7]])
    weight = torch.tensor([[1, 0], [0, 1], [1, 1], [1, 2], [1, 1], [0.5, 1.0]])
    y = torch.tensor([0, 1, 2, 5, 4, 5])
    expected = published_paths.loss(net, x, noise, t, weight, y, lambdas=(1, 0.333), t_clip=t_clip)
    found = model.loss(x, noise, Times(t, weight), y)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    expected.backward()
    found.backward()
    _, gradients = convert(
        {key: p.grad for key, p in net.named_parameters() if p.grad is not None} | {"pos_embed": net.pos_embed}
    )
    for name, p in model.network.named_parameters():
        torch.testing.assert_close(p.grad, gradients[name], rtol=1e-3, atol=1e-5 * gradients[name].abs().max().item())


def test_the_loss_with_repa_is_equal() -> None:
    net = randomize(PublicNet(**SMALL, repa=12))
    repa = {"name": "pixels", "cells": 2}
    training = config(latent=False, network={"repa_block": 1, "repa_width": 12}, repa=repa, repa_weight=0.7)
    model = bundle(net, training)
    x, noise, align = torch.randn(4, 3, 16, 16), torch.randn(4, 3, 16, 16), torch.randn(4, 12, 4, 4)
    t, y = torch.tensor([[0.0], [0.4], [0.8], [0.97]]), torch.tensor([0, 1, 5, 2])
    expected = published_paths.loss(
        net, [x], [noise], t, torch.ones(4, 1), y, lambdas=(1.0,), t_clip=0.05, repa=(0.7, align)
    ).item()
    found = model.loss([x], [noise], Times(t, torch.ones(4, 1)), y, align)[0].item()
    assert found == pytest.approx(expected, rel=1e-5)
