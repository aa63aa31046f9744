"""The network with what training and sampling ask of it: a loss, velocities, noise per image, files."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from lf import checkpoint, flow
from lf.config import Sampling, Training, parse
from lf.data import to_uint8
from lf.encoders import Codec
from lf.errors import UserError
from lf.files import replace, replace_tensors, sha256
from lf.guided import Guided
from lf.network import Network
from lf.network.blocks import Block
from lf.sampler import sample
from lf.schedules import Times
from lf.seeds import generator

PROVENANCE = ("data_digest", "source", "weights_sha256")  # in config.json beside the training config


class LatentForcing(nn.Module, ModelHubMixin, library_name="lf", tags=["latent-forcing", "image-generation"]):
    """A network over the streams of a training config: Latent Forcing, JiT or JiT+REPA.

    Args:
        config: the training run.
        classes: number of classes; label ``classes`` means "no label".

    Example:
        >>> from lf import LatentForcing
        >>> model = LatentForcing.from_pretrained("runs/training/0123456789ab")  # or a name on the Hugging Face hub
        >>> images, labels = model.images(range(16))  # uint8 (16, 3, H, W)
    """

    def __init__(self, config: Training, classes: int):
        super().__init__()
        self.config, self.classes, self.streams = config, classes, config.streams
        self.network = Network(config.network, self.streams, classes)
        self.folder: Path | None = None  # of the run it was read from: decoders lie in its store

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
        config, t, weight = self.config, times.t, times.weight.to(times.t.device, non_blocking=True)
        z = [flow.interpolate(a, e, t[:, i]) for i, (a, e) in enumerate(zip(x, noise, strict=True))]
        with torch.autocast(t.device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            rows = self._counted(times.weight, t.device) if config.network.expert_width else None
            x_hat, tapped = self.network(z, t, y, rows=rows)
        parts = []
        for i, (a, a_hat) in enumerate(zip(x, x_hat, strict=True)):
            of = rows[i] if rows else slice(None)
            loss = flow.velocity_loss(a[of], a_hat.float(), t[of, i], weight[of, i], config.schedule.t_clip)
            parts.append(loss * (len(a_hat) / len(t)))  # a mean over the whole batch
        total = torch.stack([s.loss_weight * loss for s, loss in zip(self.streams, parts, strict=True)]).sum()
        if align is not None:
            apart = 1 - cosine_similarity(tapped.float(), align.flatten(2).mT, -1).mean(1)
            total = total + config.repa_weight * (apart * (weight.sum(1) > 0)).mean()  # not of damaged images
        return torch.stack([total, *parts])

    forward = loss  # what DistributedDataParallel calls

    def _counted(self, weight: Tensor, device: torch.device) -> list[Tensor]:
        """The images that count in each stream's loss, or the first one, so that every expert has a gradient.

        Read from the weights where they were drawn: on the CPU, so that nothing waits for the device.
        """
        counted = [stream.nonzero()[:, 0] if stream.any() else torch.zeros(1, dtype=torch.long) for stream in weight.T]
        return [some.to(device, non_blocking=True) for some in counted]

    def images(
        self,
        indices: range,
        sampling: Sampling | None = None,
        *,
        labels: Tensor | None = None,
        guide: "LatentForcing | None" = None,
        batch: int = 125,
    ) -> tuple[Tensor, Tensor]:
        """Draws the images of ``indices``: uint8 ``(n, 3, H, W)`` and their labels ``(n,)``, on the CPU.

        Arguments and errors as of `samples`.
        """
        labels = self.labels(indices) if labels is None else labels
        drawn = self.samples(indices, sampling, labels=labels, guide=guide, batch=batch)
        return torch.cat([to_uint8(x).cpu() for x in drawn]), labels

    @torch.no_grad()
    def samples(
        self,
        indices: range,
        sampling: Sampling | None = None,
        *,
        labels: Tensor | None = None,
        guide: "LatentForcing | None" = None,
        batch: int = 125,
    ) -> Iterator[Tensor]:
        """The images of ``indices`` batch by batch, float ``(n, 3, H, W)`` in about [-1, 1], where the network is.

        An image depends on its own index and label alone: not on the batch, nor on which process draws it.

        Args:
            indices: which images; an index fixes an image's noise.
            sampling: path, solver, guidance, seed.
            labels: ``(n,)`` classes to show; class-balanced by default. A network that was trained without labels
                (``label_dropout=1``) is shown none.
            guide: the weaker network, where the guidance asks for one.
            batch: images at a time, at most.

        Raises:
            UserError: the guide is missing or has other streams or classes, or path and steps do not fit.
        """
        sampling = sampling or Sampling()
        path, device = sampling.path_for(self.config), next(self.parameters()).device
        weak = self._checked(guide, sampling)
        shown_by, codec = self.shown_by(path)
        labels = self.labels(indices) if labels is None else labels
        # Parts of one shape, compiled once, that share the images evenly; the last repeats its last where it must.
        size = -(-len(indices) // -(-len(indices) // batch))
        starts = range(0, len(indices), size)
        parts = [torch.arange(start, start + size).clamp_max(len(indices) - 1) for start in starts]
        noise = self._noise_ahead([[indices[row] for row in part.tolist()] for part in parts], sampling)
        for start, part, noises in zip(starts, parts, noise, strict=True):
            first, *fresh = [[e.to(device) for e in streams] for streams in noises]
            again = (sampling.latent_noise, fresh[0]) if fresh else None
            shown = labels[part] if self.config.label_dropout < 1 else torch.full_like(part, self.classes)
            velocity = Guided(self.network, weak, sampling, shown.to(device), self.classes)
            with torch.autocast(device.type, torch.bfloat16, enabled=sampling.dtype == "bfloat16"):
                z = sample(velocity, first, path, sampling.solver, again)
            x = z[shown_by][: len(indices) - start]
            yield codec.decode(x) if codec else x

    def _checked(self, guide: "LatentForcing | None", sampling: Sampling) -> Network | None:
        """The guide's network, where there is one. Raises `UserError` if it is missing or of other streams."""
        if guide is None:
            if "autoguidance" in sampling.guidance.kind:
                raise UserError(f"guidance.kind={sampling.guidance.kind}: needs the guide's network")
            return None
        theirs, ours = ([s.shape for s in model.streams] for model in (guide, self))
        if theirs != ours or guide.classes != self.classes:
            raise UserError(
                f"guidance.guide={sampling.guidance.guide}: its streams {theirs} and {guide.classes} classes must be "
                f"the model's: {ours}, {self.classes}"
            )
        return guide.network

    def _noise_ahead(self, parts: Sequence[Sequence[int]], sampling: Sampling) -> Iterator[list[list[Tensor]]]:
        """Noise of each part, and fresh noise if finished latents get any; the next part's is drawn meanwhile."""
        purposes = ["image", "latent noise"] if sampling.latent_noise else ["image"]

        def draw(part: Sequence[int]) -> list[list[Tensor]]:
            return [self.noise(part, sampling.seed, purpose) for purpose in purposes]

        with ThreadPoolExecutor(1) as ahead:
            ready = None
            for part in parts:
                waiting = ahead.submit(draw, part)
                if ready:
                    yield ready.result()
                ready = waiting
            if ready:
                yield ready.result()

    def shown_by(self, path: Tensor) -> tuple[int, Codec | None]:
        """The stream that the images are: the pixels or, where ``path`` never moves them, a latent, and its decoder.

        Raises:
            UserError: no latent has a decoder, or it is not in the store of the training.
        """
        return (0, None) if path[-1, 0] > path[0, 0] else self._decoded

    @cached_property
    def _decoded(self) -> tuple[int, Codec]:
        found = [(stream, encoder) for stream, encoder in enumerate(self.config.latents, 1) if encoder.has_decoder]
        if not found:
            raise UserError("path: it moves no pixels, and no latent of this network has a decoder")
        stream, encoder = found[0]
        config = json.loads((self.folder / "config.json").read_text()) if self.folder else {}
        if not self.folder or "data_digest" not in config:
            raise UserError(f"{encoder.name}: its decoder lies in the store of the training: draw from the run itself")
        cache = self.folder.absolute().parent.parent / "cache"
        codec = encoder.codec(config["data_digest"], self.config.network.patch, cache)
        return stream, codec.to(next(self.parameters()).device)

    def labels(self, indices: Sequence[int]) -> Tensor:
        """Class-balanced labels: image ``i`` shows class ``i mod classes``."""
        return torch.tensor(indices) % self.classes

    def noise(self, indices: Sequence[int], seed: int, purpose: str = "image") -> list[Tensor]:
        """Each image's own noise; stream i's is the same whatever streams come after it."""
        per_image = []
        for index in indices:
            draw = generator(purpose, seed, index)
            per_image.append([torch.randn(s.shape, generator=draw) for s in self.streams])
        return [torch.stack(stream) * self.config.noise_scale for stream in zip(*per_image, strict=True)]

    # --- files: a folder with config.json and checkpoint.safetensors, as every training run is one

    @classmethod
    def from_pretrained(cls, name: str | Path, weights: str = "ema", **download: Any) -> "LatentForcing":  # type: ignore[override]
        """The network of a training run's folder, of what `lf.convert` wrote, or of a name on the Hugging Face hub.

        Args:
            name: folder, or ``owner/name`` on the hub.
            weights: ``ema``, ``ema2``, … or ``raw``.
            download: for ``huggingface_hub.snapshot_download``, such as ``revision``, ``token``, ``cache_dir``.

        Raises:
            UserError: nothing there, or what is there is not a network of this project.
        """
        folder = Path(name)
        if not folder.is_dir():
            try:
                folder = Path(snapshot_download(str(name), allow_patterns=["*.json", "*.safetensors"], **download))
            except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
                raise UserError(f"{name}: no such folder, and not found on the hub ({type(error).__name__})") from None
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder}: holds no config.json; it must be a training run's folder or lf.convert's")
        file = folder / checkpoint.NAME
        if not file.exists():
            raise UserError(f"run={name}: not trained yet: {file} is missing")
        tensors, _ = checkpoint.read(file, weights)
        if "label.weight" not in tensors:
            raise UserError(f"{file}: holds no weights '{weights}'; allowed: {', '.join(checkpoint.kinds(file))}")
        model = cls(training_of(folder), classes=tensors["label.weight"].shape[0] - 1)
        checkpoint.fill(model.network, tensors, file)
        model.folder = folder
        return model.eval().requires_grad_(False)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Writes the weights as ``ema``, and the config; called by ``save_pretrained`` and ``push_to_hub``."""
        file = save_directory / "checkpoint.safetensors"
        replace_tensors(file, {f"ema.{k}": v for k, v in self.network.state_dict().items()}, {"step": "0"})
        config = self.config.model_dump(mode="json", exclude={"runtime"}) | {"weights_sha256": sha256(file)}
        replace(save_directory / "config.json", json.dumps(config, indent=1))


def training_of(folder: Path, **changes: Any) -> Training:
    """The training config in a run's folder. Raises `UserError` if it is not one."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {folder / 'config.json'}: {error}") from None
    return parse(Training, {k: v for k, v in config.items() if k not in PROVENANCE} | changes, where=str(folder))
