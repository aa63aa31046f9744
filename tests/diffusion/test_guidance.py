"""Guidance through the real denoiser: which passes are run, and what they add up to."""

import pytest
import torch
from torch import nn

from lf.config import Sampling, Training
from lf.core.errors import UserError
from lf.core.parsing import parse
from lf.data import to_uint8
from lf.diffusion import flow
from lf.diffusion.flow import shift
from lf.diffusion.guidance import Guidance
from lf.model.denoiser import LatentForcing

CLASSES = 4
NAMES = ["pixels", "tiny"]


def model(schedule: str = "shifted") -> LatentForcing:
    """A small network over two streams, with weights everywhere and labels that matter."""
    config = parse(Training, {
        "latents": "tiny", "schedule": schedule, "resolution": 16, "dtype": "float32", "steps": 1, "batch": 1, "lr": 1,
        "network": {"depth": 1, "width": 32, "heads": 2, "bottleneck": 8, "patch": 4, "class_tokens": 0},
    })  # fmt: skip
    denoiser = LatentForcing(config, CLASSES)
    for p in denoiser.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    nn.init.normal_(denoiser.network.label.weight)
    return denoiser.eval().requires_grad_(False)


def sampling(**values: object) -> Sampling:
    return parse(Sampling, {"solver": "euler", **values})


def batch_sizes(denoiser: LatentForcing, how: Sampling, n: int = 2) -> list[int]:
    """Rows in each pass of the network while ``n`` images are drawn."""
    sizes: list[int] = []
    hook = denoiser.network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[1])))
    denoiser.images(range(n), how, batch=n)
    hook.remove()
    return sizes


@pytest.mark.parametrize("guidance", [
    {},
    {"kind": "cfg"},
    {"kind": "cfg", "scale": {"pixels": 1, "tiny": 1}},
])  # fmt: skip
def test_a_scale_of_one_needs_no_second_pass(guidance: dict) -> None:
    assert batch_sizes(model(), sampling(steps=4, guidance=guidance)) == [2] * 4


def test_only_steps_inside_the_interval_are_guided() -> None:
    # one stream moves a step: the latent at 0, 1/4, 1/2, 3/4, then the pixels
    guidance = {"kind": "cfg", "scale": {"tiny": 3}, "interval": {"tiny": (0.2, 0.75)}}
    assert batch_sizes(model("cascaded"), sampling(steps=8, guidance=guidance)) == [2, 4, 4, 2] + [2] * 4
    guidance = {"kind": "cfg", "scale": {"pixels": 3}, "interval": {"pixels": (0, 0.5)}}
    assert batch_sizes(model("cascaded"), sampling(steps=8, guidance=guidance)) == [2] * 4 + [4, 4, 2, 2]


@pytest.mark.parametrize("shifted", [1.0, 0.575, 1.7])
def test_a_step_on_an_edge_of_an_interval_is_not_guided(shifted: float) -> None:
    """Whatever rounding makes of its time: each time of the path, as every edge, for many numbers of steps."""
    for steps in (*range(2, 60), 100, 128, 200):
        path = [shift(torch.tensor(k / steps, dtype=torch.float64), shifted).item() for k in range(steps + 1)]
        rounded = [torch.tensor(t, dtype=torch.float32).item() for t in path]
        for low in range(steps - 1):
            high = low + 1 + (7 * low) % (steps - low)
            guidance = Guidance(kind="cfg", scale={"tiny": 3}, interval={"tiny": (path[low], path[high])})
            expected = [3.0 if (low < k or low == 0) and k < high else 1.0 for k in range(steps + 1)]
            for times in (path, rounded):
                assert [guidance.scales(["tiny"], [t])[0] for t in times] == expected


def test_a_switch_is_a_time_of_the_latents() -> None:
    guidance = Guidance(kind="cfg_then_autoguidance", guide="weak", switch=0.999)
    assert [guidance.by_guide([t], move=True) for t in (0.5, 0.9989, 0.999, 1.0)] == [False, False, True, True]
    assert not guidance.by_guide([1.0, 0.5], move=False) and guidance.by_guide([1.0, 1.0], move=True)
    with pytest.raises(ValueError, match="guidance.switch=0.9: needs guidance.kind=cfg_then_autoguidance"):
        Guidance(kind="cfg", switch=0.9)
    assert "switch" not in Guidance().model_dump(), "a default leaves identities as they were"


def by_hand(denoiser: LatentForcing, how: Sampling, n: int) -> torch.Tensor:
    """The same images by ``v_u + s_i (v_c - v_u)``, stream by stream, in Euler steps written out."""
    z, labels = denoiser.noise(range(n), how.seed), denoiser.labels(range(n))
    path = how.path_for(denoiser.config).float()
    for now, then in zip(path[:-1], path[1:], strict=True):
        t = now.expand(n, -1)
        strong, weak = (denoiser.network(z, t, y).x for y in (labels, torch.full_like(labels, CLASSES)))
        for i, name in enumerate(NAMES):
            v_c, v_u = (flow.velocity(x[i], z[i], t[:, i], how.t_clip) for x in (strong, weak))
            z[i] = z[i] + (then - now)[i] * (v_u + how.guidance.scale[name] * (v_c - v_u))
    return to_uint8(z[0])


def test_the_guided_velocity_has_a_scale_for_each_stream() -> None:
    denoiser, drawn = model(), []
    for pixels, tiny in ((1.5, 4), (4, 4), (1.5, 1), (0, 0.5)):
        how = sampling(steps=3, guidance={"kind": "cfg", "scale": {"pixels": pixels, "tiny": tiny}})
        drawn.append(denoiser.images(range(CLASSES), how, batch=CLASSES)[0].int())
        assert (drawn[-1] - by_hand(denoiser, how, CLASSES)).abs().max() <= 1
    for other in drawn[1:]:  # each scale leaves its mark, else agreeing says nothing
        assert ((drawn[0] - other).abs() > 5).float().mean() > 0.05


def test_the_guide_is_another_network_at_the_null_label() -> None:
    """``v_g + s (v - v_g)``, written out in Euler steps, with CFG as long as the latent moves or without."""
    denoiser, guide = model("cascaded"), model("cascaded")
    scale = {"pixels": 1.5, "tiny": 4}
    for kind in ("autoguidance", "cfg_then_autoguidance"):
        how = sampling(steps=4, guidance={"kind": kind, "scale": scale, "guide": "weak"})
        drawn, labels = denoiser.images(range(CLASSES), how, guide=guide)
        z, null = denoiser.noise(range(CLASSES), how.seed), torch.full_like(labels, CLASSES)
        path = how.path_for(denoiser.config).float()
        for now, then in zip(path[:-1], path[1:], strict=True):
            t, latent_moves = now.expand(CLASSES, -1), bool(then[1] > now[1])
            weak = denoiser if kind.startswith("cfg") and latent_moves else guide
            strong, other = denoiser.network(z, t, labels).x, weak.network(z, t, null).x
            for i, name in enumerate(NAMES):
                v, v_weak = (flow.velocity(x[i], z[i], t[:, i], how.t_clip) for x in (strong, other))
                z[i] = z[i] + (then - now)[i] * (v_weak + scale[name] * (v - v_weak))
        assert (drawn.int() - to_uint8(z[0]).int()).abs().max() <= 1
        plain = denoiser.images(range(CLASSES), sampling(steps=4))[0].int()
        assert ((drawn.int() - plain).abs() > 5).float().mean() > 0.05
        with pytest.raises(UserError, match="guide"):
            denoiser.images(range(1), how)


def test_autoguidance_needs_a_guide() -> None:
    with pytest.raises(UserError, match="guidance.guide"):
        model().images(range(1), sampling(steps=2, guidance={"kind": "autoguidance", "scale": {"tiny": 2}}))


def test_a_scale_of_zero_draws_what_the_null_label_draws() -> None:
    denoiser = model()
    unlabelled = sampling(steps=4, guidance={"kind": "cfg", "scale": {"pixels": 0, "tiny": 0}})
    guided, labels = denoiser.images(range(CLASSES), unlabelled, batch=CLASSES)
    with torch.no_grad():
        denoiser.network.label.weight[:CLASSES] = denoiser.network.label.weight[CLASSES]
    plain, _ = denoiser.images(range(CLASSES), sampling(steps=4), batch=CLASSES)
    assert (guided.int() - plain.int()).abs().max() <= 1 and labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("t", "active"), [(0.0, False), (0.06, False), (0.0601, True), (0.499, True), (0.5, False)])
def test_an_interval_is_open_at_both_borders(t: float, active: bool) -> None:
    guidance = Guidance(kind="cfg", scale={"tiny": 2.9}, interval={"tiny": (0.06, 0.5)})
    assert guidance.scales(NAMES, [t, t]) == [1, 2.9 if active else 1]


def test_an_interval_from_zero_holds_at_zero_and_one_stream_asks_only_its_own_time() -> None:
    guidance = Guidance(kind="cfg", scale={"pixels": 2, "tiny": 3}, interval={"tiny": (0, 0.5)})
    assert guidance.scales(NAMES, [0.0, 0.0]) == [2, 3]
    assert guidance.scales(NAMES, [0.9, 0.1]) == [2, 3]
    assert guidance.scales(NAMES, [0.1, 0.9]) == [2, 1]


@pytest.mark.parametrize(("guidance", "said"), [
    ({"kind": "cfg", "interval": {"tiny": (0.5, 0.2)}}, "interval.tiny"),
    ({"kind": "cfg", "interval": {"tiny": (0.5, 0.5)}}, "interval.tiny"),
    ({"kind": "cfg", "interval": {"pixels": (-0.1, 0.5)}}, "interval.pixels"),
    ({"kind": "cfg", "interval": {"pixels": (0.1, 1.5)}}, "interval.pixels"),
    ({"scale": {"pixels": 2}}, "guidance.kind=cfg"),
    ({"kind": "cgf"}, "'cfg'"),
    ({"kind": "cfg", "scales": {"pixels": 2}}, "did you mean 'scale'"),
    ({"kind": "cfg", "guide": "0123"}, "guidance.guide=0123"),
])  # fmt: skip
def test_a_bad_setting_is_one_line(guidance: dict, said: str) -> None:
    with pytest.raises(UserError) as caught:
        sampling(guidance=guidance)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("part", [{"scale": {"tniy": 2}}, {"scale": {"tiny": 2}, "interval": {"tniy": (0, 0.5)}}])
def test_a_stream_that_the_model_lacks_is_one_line_with_the_nearest_name(part: dict) -> None:
    with pytest.raises(UserError, match="'tniy'.*did you mean 'tiny'"):
        model().images(range(1), sampling(steps=2, guidance={"kind": "cfg", **part}), batch=1)
