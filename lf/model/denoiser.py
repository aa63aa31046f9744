"""The network with its training loss. `lf.model.sampling` samples images, `lf.model.hub` reads and writes files."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from lf.diffusion import flow
from lf.model.hub import HubFiles
from lf.model.sampling import ImageSampler
from lf.network.blocks import Block
from lf.schedules import Times


class LatentForcing(ImageSampler, HubFiles, library_name="lf", tags=["latent-forcing", "image-generation"]):
    """A network over the streams of a training config: Latent Forcing, JiT or JiT+REPA.

    Args:
        config: the training run.
        classes: number of classes; label ``classes`` means "no label".

    Example:
        >>> from lf import LatentForcing
        >>> model = LatentForcing.from_pretrained("runs/training/0123456789ab")  # or a name on the Hugging Face hub
        >>> images, labels = model.images(range(16))  # uint8 (16, 3, H, W)
    """

    def compile_blocks(self) -> None:
        """Compiles the transformer's blocks; they are equal in structure, so they are compiled only once."""
        for module in self.network.modules():
            if isinstance(module, Block):
                module.compile()

    def loss(
        self, x: Sequence[Tensor], noise: Sequence[Tensor], times: Times, y: Tensor, align: Tensor | None = None
    ) -> Tensor:
        """The training loss ``Σ_i λ_i mean(w_i · mean((v_i - v̂_i)^2))`` (LF).

        With ``align``, REPA's ``λ mean(1 - cos)`` is added (arXiv 2410.06940).

        Args:
            x: clean streams, each ``(B, C, H, W)``.
            noise: noise of the same shapes.
            times: times and loss weights, each ``(B, streams)``.
            y: labels ``(B,)``.
            align: features that REPA aligns to, ``(B, C, h, w)``.

        Returns:
            The total, then the loss of each stream: ``(1 + streams,)``.
        """
        config, t, weight = self.config, times.t, times.weight.to(times.t.device, non_blocking=True)
        z = [flow.interpolate(a, e, t[:, i]) for i, (a, e) in enumerate(zip(x, noise, strict=True))]
        with torch.autocast(t.device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            rows = self._active_rows(times.weight, t.device) if config.network.expert_width else None
            x_hat, tapped = self.network(z, t, y, rows=rows)
        parts = []
        for i, (a, a_hat) in enumerate(zip(x, x_hat, strict=True)):
            of = rows[i] if rows else slice(None)
            loss = flow.velocity_loss(a[of], a_hat.float(), t[of, i], weight[of, i], config.schedule.t_clip)
            parts.append(loss * (len(a_hat) / len(t)))  # so that it is a mean over the whole batch
        total = torch.stack([s.loss_weight * loss for s, loss in zip(self.streams, parts, strict=True)]).sum()
        if align is not None:
            apart = 1 - cosine_similarity(tapped.float(), align.flatten(2).mT, -1).mean(1)
            total = total + config.repa_weight * (apart * (weight.sum(1) > 0)).mean()  # without damaged images
        return torch.stack([total, *parts])

    forward = loss  # what DistributedDataParallel calls

    def _active_rows(self, weight: Tensor, device: torch.device) -> list[Tensor]:
        """The images with a weight in each stream's loss; the first image if there are none, so that every expert has a
        gradient.

        The weights are read on the CPU, where they were drawn, so that nothing synchronises with the device.
        """
        counted = [stream.nonzero()[:, 0] if stream.any() else torch.zeros(1, dtype=torch.long) for stream in weight.T]
        return [some.to(device, non_blocking=True) for some in counted]
