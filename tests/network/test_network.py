"""The network against the method's section 3: sizes, shapes, and what every part must leave alone."""

import pytest
import torch
from torch import Tensor, nn

from lf.diffusion.streams import Stream
from lf.network import Network, NetworkConfig, blocks
from lf.network.blocks import rope_table, rotate
from lf.network.embed import PatchEmbed, patchify, unpatchify

PIXELS, DINO = Stream("pixels", 3, 256, 16), Stream("dinov2", 768, 16, 1)
JIT, LF = (PIXELS,), (PIXELS, DINO)
SIZES = {
    "S": {"depth": 12, "width": 384, "heads": 6, "class_token_block": 4},
    "B": {"depth": 12, "width": 768, "heads": 12, "class_token_block": 4},
    "LM": {"depth": 20, "width": 1024, "heads": 16, "class_token_block": 8},
    "L": {"depth": 24, "width": 1024, "heads": 16, "class_token_block": 8},
}


@pytest.mark.parametrize(
    ("size", "streams", "parts", "parameters"),
    [
        ("S", JIT, {}, 33_319_296),
        ("S", LF, {}, 34_009_344),
        ("S", LF, {"expert_width": 1024}, 96_900_048),
        ("B", JIT, {}, 131_123_712),
        ("B", JIT, {"repa_block": 4}, 138_468_608),
        ("B", LF, {}, 132_699_648),
        ("B", LF, {"expert_width": 768}, 177_586_944),
        ("LM", LF, {"expert_width": 1024}, 465_407_456),
        ("L", JIT, {}, 458_877_664),
        ("L", JIT, {"repa_block": 8}, 466_746_848),
        ("L", LF, {}, 461_208_032),
    ],
)
def test_parameter_counts_are_the_published_ones(
    size: str, streams: tuple[Stream, ...], parts: dict[str, int], parameters: int
) -> None:
    with torch.device("meta"):
        network = Network(NetworkConfig(**SIZES[size], **parts), streams, classes=1000)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == parameters


# --- small networks that can be run

CONFIG = NetworkConfig(depth=3, width=32, heads=2, bottleneck=8, patch=4, class_tokens=5, class_token_block=1)
EXPERTS = NetworkConfig(**{**CONFIG.model_dump(), "expert_width": 48})
SMALL = (Stream("pixels", 3, 16, 4), Stream("a", 6, 4, 1), Stream("b", 2, 8, 2))


def awake(config: NetworkConfig, streams: tuple[Stream, ...]) -> Network:
    """A network with weights in the places that begin at zero."""
    network = Network(config, streams, classes=10)
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.2)
    return network


def inputs(streams: tuple[Stream, ...], n: int = 2) -> tuple[list[Tensor], Tensor, Tensor]:
    return [torch.randn(n, *s.shape) for s in streams], torch.rand(n, len(streams)), torch.randint(11, (n,))


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("config", [CONFIG, EXPERTS], ids=["one head", "experts"])
def test_it_predicts_every_stream_in_its_shape_and_zero_at_first(config: NetworkConfig, k: int) -> None:
    out = Network(config, SMALL[:k], classes=10)(*inputs(SMALL[:k])).x
    assert [tuple(x.shape) for x in out] == [(2, *s.shape) for s in SMALL[:k]]
    assert all((x == 0).all() for x in out)


@pytest.mark.parametrize("config", [CONFIG, EXPERTS], ids=["one head", "experts"])
def test_every_input_reaches_every_output(config: NetworkConfig) -> None:
    network = awake(config, SMALL)
    z, t, y = inputs(SMALL)
    before = network(z, t, y).x
    changes = [([*z[:i], z[i] + 1, *z[i + 1 :]], t, y) for i in range(3)]
    changes += [(z, t + torch.eye(3)[i] / 10, y) for i in range(3)] + [(z, t, 10 - y)]
    for change in changes:
        assert all((a - b).abs().max() > 1e-4 for a, b in zip(before, network(*change).x, strict=True))


def test_one_sample_of_a_batch_does_not_see_another() -> None:
    network = awake(EXPERTS, SMALL)
    z, t, y = inputs(SMALL, n=3)
    for together, alone in zip(network(z, t, y).x, network([a[1:2] for a in z], t[1:2], y[1:2]).x, strict=True):
        torch.testing.assert_close(together[1:2], alone)


def test_branches_that_are_not_wanted_are_not_run_and_change_nothing() -> None:
    network = awake(EXPERTS, SMALL)
    given = inputs(SMALL)
    everything = network(*given).x
    ran: list[int] = []
    for i, branch in enumerate(network.branches):
        for part in branch.modules():
            part.register_forward_hook(lambda *_, i=i: ran.append(i))
    for wanted in ([True, False, False], [False, True, True]):
        ran.clear()
        some = network(*given, wanted=wanted).x
        assert set(ran) == {i for i in range(3) if wanted[i]}
        for want, part, whole in zip(wanted, some, everything, strict=True):
            assert part.equal(whole) if want else part is None


def test_one_head_gives_only_the_streams_that_are_wanted() -> None:
    network = awake(CONFIG, SMALL)
    given = inputs(SMALL)
    some = network(*given, wanted=[False, True, False]).x
    assert some[0] is None and some[2] is None and some[1].equal(network(*given).x[1])


@pytest.mark.parametrize("config", [CONFIG, EXPERTS], ids=["one head", "experts"])
def test_both_ways_to_compute_attention_agree(config: NetworkConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    network = awake(config, SMALL)
    given = inputs(SMALL)
    fused_calls: list[int] = []
    fused = blocks.F.scaled_dot_product_attention
    monkeypatch.setattr(blocks.F, "scaled_dot_product_attention", lambda *a: fused_calls.append(1) or fused(*a))
    plain = network(*given).x
    assert not fused_calls
    monkeypatch.setattr(blocks, "PLAIN_ATTENTION_TOKENS", 0)
    for a, b in zip(plain, network(*given).x, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert fused_calls


@pytest.mark.parametrize("block", [0, 1, 2])
def test_repa_reads_the_patch_tokens_alone(block: int) -> None:
    config = NetworkConfig(**{**CONFIG.model_dump(), "repa_block": block, "repa_width": 7})
    network = awake(config, SMALL)
    seen: list[Tensor] = []
    network.repa.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    network.blocks[block].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    assert network(*inputs(SMALL)).repa.shape == (2, 16, 7)
    tapped, entering = seen
    assert tapped.equal(entering[:, -16:])  # what enters the block, whether or not class tokens stand before it


def test_class_tokens_come_in_at_their_block() -> None:
    network = awake(CONFIG, SMALL)
    tokens: list[int] = []
    for block in network.blocks:
        block.register_forward_pre_hook(lambda _, given: tokens.append(given[0].shape[1]))
    network(*inputs(SMALL))
    assert tokens == [16, 21, 21]


# --- patches and rotary embedding


@pytest.mark.parametrize("stream", [*SMALL, Stream("wide", 5, 12, 3)], ids=str)
def test_unpatchify_undoes_patchify(stream: Stream) -> None:
    x = torch.randn(2, *stream.shape)
    tokens = patchify(x, stream.patch)
    assert tokens.shape == (2, stream.grid**2, stream.patch**2 * stream.channels)
    assert unpatchify(tokens, stream).equal(x)


def test_a_token_lists_row_column_channel_with_the_channel_fastest() -> None:
    x = torch.arange(3 * 16 * 16.0).reshape(1, 3, 16, 16)
    token = patchify(x, 4)[0, 4 * 2 + 1].tolist()  # patch in row 2, column 1
    assert token == [x[0, c, 8 + i, 4 + j].item() for i in range(4) for j in range(4) for c in range(3)]


def test_rotation_makes_products_depend_on_relative_position_only() -> None:
    grid, width, prefix = 4, 16, 3
    cos, sin = rope_table(grid, width, prefix)
    q, k = (torch.randn(width).expand(prefix + grid**2, -1) for _ in range(2))  # the same vector everywhere
    products = (rotate(q, cos, sin) @ rotate(k, cos, sin).T)[prefix:, prefix:]
    row, column = torch.arange(grid**2) // grid, torch.arange(grid**2) % grid
    apart = (row[:, None] - row) * 100 + column[:, None] - column
    means = []
    for distance in apart.unique():
        same = products[apart == distance]
        torch.testing.assert_close(same, same[:1].expand_as(same), rtol=1e-4, atol=1e-4)
        means.append(same[0])
    assert torch.stack(means).unique().numel() == (2 * grid - 1) ** 2  # and they do depend on it


def test_rotation_leaves_class_tokens_alone_and_turns_rows_in_the_first_half() -> None:
    grid, width, prefix = 3, 8, 2
    x = torch.randn(1, prefix + grid**2, width)
    turned = rotate(x, *rope_table(grid, width, prefix))
    assert turned[:, :prefix].equal(x[:, :prefix])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    moved = (turned != x)[0, prefix:].unflatten(0, (grid, grid))
    assert moved[1:, 0, : width // 2].all() and not moved[:, 0, width // 2 :].any()
    assert moved[0, 1:, width // 2 :].all() and not moved[0, :, : width // 2].any()


def test_patches_are_embedded_as_the_published_convolutions_do() -> None:
    embed, z = PatchEmbed(SMALL[0], bottleneck=8, width=32), torch.randn(2, *SMALL[0].shape)
    torch.testing.assert_close(embed(z), embed.proj2(embed.proj1(z)).flatten(2).mT)
