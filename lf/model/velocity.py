"""The guided velocity of one batch along a path; it runs only those parts of the network that a step needs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lf.diffusion import flow
from lf.diffusion.guidance import Guidance
from lf.network import Network


class GuidedVelocity:
    """Velocities ``v_u + s_i (v_c - v_u)`` of the moving streams, as `lf.diffusion.solver.sample` takes them.

    If all scales are 1, there is only one pass. Two passes of the same network are run as one batch. A stream that does
    not move is embedded only once.

    Args:
        network: the network.
        guide: the weaker network, if the guidance needs one.
        guidance: its kind, scales and intervals.
        t_clip: lower bound of ``1 - t`` in the velocity.
        y: labels ``(B,)``.
        null: the label that stands for "no label".
    """

    def __init__(
        self, network: Network, guide: Network | None, guidance: Guidance, t_clip: float, y: Tensor, null: int
    ):
        self.network, self.guide, self.guidance, self.t_clip = network, guide, guidance, t_clip
        self.y, self.null = y, torch.full_like(y, null)
        self.names = [s.name for s in network.streams]
        self.embedded: dict[tuple[Network, int], tuple[Tensor, Tensor]] = {}  # each stream's last value, and its tokens

    def __call__(self, z: list[Tensor], t: Sequence[float], moves: Sequence[bool]) -> list[Tensor | None]:
        guidance, y = self.guidance, self.y
        scales = guidance.scales(self.names, t)
        guided = any(m and s != 1 for m, s in zip(moves, scales, strict=True))
        weak = self.guide if self.guide and guidance.by_guide(t[1:], any(moves[1:])) else self.network
        # Filled on the device: a copy from the CPU would synchronise with it.
        times = torch.stack([torch.full(y.shape, now, device=y.device) for now in t], 1)
        tokens = self._tokens(self.network, z)
        if guided and weak is self.network:
            both = weak(
                [torch.cat([a, a]) for a in tokens], times.repeat(2, 1), torch.cat([y, self.null]), wanted=moves
            ).x
            halves = [(None, None) if x is None else x.float().chunk(2) for x in both]
        else:
            strong = self.network(tokens, times, y, wanted=moves).x
            other = weak(self._tokens(weak, z), times, self.null, wanted=moves).x if guided else [None] * len(z)
            halves = list(zip(strong, other, strict=True))
        out: list[Tensor | None] = []
        for i, ((x, x_weak), scale) in enumerate(zip(halves, scales, strict=True)):
            if not moves[i] or x is None:
                out.append(None)
                continue
            v = flow.velocity(x.float(), z[i], times[:, i], self.t_clip)
            if x_weak is not None:
                v_weak = flow.velocity(x_weak.float(), z[i], times[:, i], self.t_clip)
                v = v_weak + scale * (v - v_weak)
            out.append(v)
        return out

    def _tokens(self, network: Network, z: list[Tensor]) -> list[Tensor]:
        for i, (stream, embed) in enumerate(zip(z, network.embed, strict=True)):
            if self.embedded.get((network, i), (None,))[0] is not stream:
                self.embedded[network, i] = stream, embed(stream)
        return [self.embedded[network, i][1] for i in range(len(z))]
