"""The network with what training and sampling ask of it: a loss, velocities, noise per image."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from lf import flow
from lf.config import Runtime, Sampling, Training
from lf.data import to_uint8
from lf.network import Network
from lf.network.blocks import Block
from lf.sampler import sample
from lf.schedules import Times
from lf.seeds import generator


class Denoiser(nn.Module):
    """A network over the streams of a training config.

    Args:
        config: the training run.
        classes: number of classes; label ``classes`` means "no label".
    """

    def __init__(self, config: Training, classes: int):
        super().__init__()
        self.config, self.classes, self.streams = config, classes, config.streams
        self.network = Network(config.network, self.streams, classes)

    def compile_blocks(self) -> None:
        """Compiles the transformer's blocks, which are alike: one compilation serves them all."""
        for module in self.network.modules():
            if isinstance(module, Block):
                module.compile()

    def loss(
        self, x: Sequence[Tensor], noise: Sequence[Tensor], times: Times, y: Tensor, align: Tensor | None = None
    ) -> Tensor:
        """Training loss ``Σ_i λ_i mean(w_i · mean((v_i - v̂_i)^2))`` (LF), then each stream's: ``(1 + streams,)``.

        With ``align``, an encoder's ``(B, C, h, w)``, the total has REPA's ``λ mean(1 - cos)`` too (arXiv 2410.06940).
        """
        config, t = self.config, times.t
        z = [flow.interpolate(a, e, t[:, i]) for i, (a, e) in enumerate(zip(x, noise, strict=True))]
        with torch.autocast(t.device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            x_hat, tapped = self.network(z, t, y)
        parts = torch.stack([
            flow.velocity_loss(x[i], x_hat[i].float(), z[i], t[:, i], times.weight[:, i], config.schedule.t_clip)
            for i in range(len(z))
        ])  # fmt: skip
        total = (parts * parts.new_tensor([s.loss_weight for s in self.streams])).sum()
        if align is not None:
            total = total + config.repa_weight * (1 - cosine_similarity(tapped.float(), align.flatten(2).mT, -1)).mean()
        return torch.cat([total[None], parts])

    @torch.no_grad()
    def images(self, indices: range, sampling: Sampling, runtime: Runtime) -> tuple[Tensor, Tensor]:
        """Draws the images of ``indices``: uint8 ``(n, 3, H, W)`` and their labels ``(n,)``, on the CPU.

        An image depends on its own index alone: not on the batch, nor on which process draws it.
        """
        path, device = sampling.path_for(self.config), next(self.parameters()).device
        drawn = []
        for start in range(indices.start, indices.stop, runtime.batch):
            batch = list(range(start, min(start + runtime.batch, indices.stop)))
            full = batch + batch[-1:] * (runtime.batch - len(batch))  # one shape: nothing is compiled twice
            noise = [e.to(device) for e in self.noise(full, sampling.seed)]
            y = self.labels(full).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=sampling.dtype == "bfloat16"):
                z = sample(partial(self._guided, sampling, y), noise, path, sampling.solver)
            drawn.append(to_uint8(z[0][: len(batch)]).cpu())
        return torch.cat(drawn), self.labels(indices)

    def labels(self, indices: Sequence[int]) -> Tensor:
        """Class-balanced labels: image ``i`` shows class ``i mod classes``."""
        return torch.tensor(indices) % self.classes

    def noise(self, indices: Sequence[int], seed: int) -> list[Tensor]:
        """Each image's own noise; stream i's is the same whatever streams come after it."""
        per_image = []
        for index in indices:
            draw = generator("image", seed, index)
            per_image.append([torch.randn(s.shape, generator=draw) for s in self.streams])
        return [torch.stack(stream) for stream in zip(*per_image, strict=True)]

    def _guided(
        self, sampling: Sampling, y: Tensor, z: list[Tensor], t: Sequence[float], moves: Sequence[bool]
    ) -> list[Tensor | None]:
        """Velocities ``v_u + s_i (v_c - v_u)`` of the streams that move."""
        scales = sampling.guidance.scales([s.name for s in self.streams], t)
        guided = any(m and s != 1 for m, s in zip(moves, scales, strict=True))
        n = len(y)
        if guided:  # both passes in one batch
            z, y = [torch.cat([a, a]) for a in z], torch.cat([y, torch.full_like(y, self.classes)])
        times = torch.tensor(t, device=y.device, dtype=torch.float32).expand(len(y), -1)
        x_hat = self.network(z, times, y, wanted=moves).x
        out: list[Tensor | None] = []
        for i, (x, scale) in enumerate(zip(x_hat, scales, strict=True)):
            if not moves[i] or x is None:
                out.append(None)
                continue
            v = flow.velocity(x.float(), z[i], times[:, i], sampling.t_clip)
            out.append(v[n:] + scale * (v[:n] - v[n:]) if guided else v)
        return out
