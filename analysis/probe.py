"""`python -m analysis.probe NAME [runs=FOLDER]`: measures one trained network.

    python -m analysis.probe order_ablation
    python -m analysis.probe order_ablation runs=/data/lf/runs

It measures the prediction of each stream over all pairs of times. The network is one with a latent, of the sweep's
first seed; if possible an `independent` one, which was trained at all pairs of times. On held-out images, over the
square of times (t of the pixels, t of the latents), it measures how well each stream is predicted, and how much of the
image's edges the prediction keeps. It also records one trajectory of all streams. The arrays are written to
``measured.safetensors`` in the folder of the report, with this command in the header; `analysis.export` copies them to
``results/``.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from analysis import results
from analysis.folders import arguments, report_name
from lf import data, schedules
from lf.core.cli import run_command
from lf.core.errors import UserError
from lf.core.runtime import Runtime
from lf.core.seeds import generator
from lf.data import to_float, to_uint8
from lf.diffusion import flow
from lf.diffusion.solver import sample
from lf.model.denoiser import LatentForcing
from lf.runs import TrainingRun, find_training, revision
from lf.storage.atomic import replace_tensors

TIMES = torch.linspace(0, 0.9, 10)  # of each side of the square
IMAGES = 64
FILMED, FRAMES, STEPS = 6, 13, 48
PEAK = 2.0  # images lie in [-1, 1]


def chosen(sweep: str, runs: Path) -> TrainingRun:
    """The training to measure. Raises `UserError` if no training over pixels and a latent is done."""
    frame = results.load(sweep, runs)
    first = frame[frame.seed == frame.seed.min()].training_id.unique()
    done = [find_training(name, Runtime(runs=str(runs))) for name in first if (runs / "training" / name).is_dir()]
    done = [run for run in done if run.row is not None and run.training.latents]
    done = [run for run in done if run.training.schedule.name != "latent_only"]
    if not done:
        raise UserError(f"{sweep}: no training with a latent is done in {runs}; there is nothing to measure")
    return next((run for run in done if run.training.schedule.name == "independent"), done[0])


def held_out(run: TrainingRun) -> tuple[list[Tensor], Tensor]:
    """Streams of held-out images, and their labels."""
    config = run.training
    cache = config.runtime.cache
    seen = data.open(config.data, config.resolution, cache)
    test = data.load(config.data, config.resolution, "test", cache)
    images = to_float(test.images[:IMAGES])
    latents = [encoder.load(seen, config.network.patch, cache)(images) for encoder in config.latents]
    return [images, *latents], test.labels[:IMAGES]


def edges(images: Tensor) -> Tensor:
    """Edge strength of images ``(B, 3, H, W)``: ``(B, H, W)``."""
    grey = F.pad(images.mean(1), (0, 1, 0, 1), mode="replicate")
    return torch.hypot(grey[:, 1:, :-1] - grey[:, :-1, :-1], grey[:, :-1, 1:] - grey[:, :-1, :-1])


def correlation(a: Tensor, b: Tensor) -> float:
    """Correlation of two maps per image, averaged over images; in [-1, 1]."""
    a, b = ((x - x.mean((1, 2), keepdim=True)).flatten(1) for x in (a, b))
    return F.cosine_similarity(a, b).mean().item()


@torch.no_grad()
def square(model: LatentForcing, x: Sequence[Tensor], y: Tensor) -> dict[str, Tensor]:
    """Measures predictions over the square of times; first index: time of the pixels, second: time of all latents.

    Returns:
        ``psnr`` (dB) and ``unexplained`` (mean squared error over variance), ``(streams, T, T)``; ``structure``
        ``(T, T)``, correlation of the predicted image's edges with the true ones; ``shown`` uint8 ``(3, n, 3, H, W)``,
        true images, predictions from latents only, and from pixels only, at the most similar PSNR; ``pair``, these two.
    """
    draw = generator("measure", 0)
    noise = [torch.randn(s.shape, generator=draw) * model.config.noise_scale for s in x]
    psnr, unexplained = (torch.zeros(len(x), len(TIMES), len(TIMES)) for _ in range(2))
    structure, kept = torch.zeros(len(TIMES), len(TIMES)), {}
    for i, t_pixels in enumerate(TIMES):
        for j, t_latents in enumerate(TIMES):
            t = torch.stack([t_pixels, *[t_latents] * (len(x) - 1)]).expand(len(y), -1)
            z = [flow.interpolate(a, e, t[:, s]) for s, (a, e) in enumerate(zip(x, noise, strict=True))]
            predicted = [p.float() for p in model.network(z, t, y).x]
            for s, (p, a) in enumerate(zip(predicted, x, strict=True)):
                error = (p - a).square().mean()
                psnr[s, i, j] = 10 * torch.log10(PEAK**2 / error)
                unexplained[s, i, j] = error / a.var()
            structure[i, j] = correlation(edges(predicted[0]), edges(x[0]))
            if not i or not j:
                kept[i, j] = to_uint8(predicted[0][:FILMED])
    last = len(TIMES) - 1
    same = int((psnr[0, :, 0] - psnr[0, 0, last]).abs().argmin())
    shown = torch.stack([to_uint8(x[0][:FILMED]), kept[0, last], kept[same, 0]])
    pair = torch.tensor([psnr[0, 0, last], psnr[0, same, 0]])
    return {"psnr": psnr, "unexplained": unexplained, "structure": structure, "shown": shown, "pair": pair}


@torch.no_grad()
def film(model: LatentForcing) -> dict[str, Tensor]:
    """A trajectory: ``film`` uint8 ``(frames, streams, n, 3, H, W)``, and ``film_times``.

    A latent is shown by the three principal axes of its final values.
    """
    schedule = model.config.schedule
    schedule = schedule if schedule.has_path else schedules.create("shifted").over(len(model.streams))
    path = schedule.path(schedule.steps_from(STEPS))
    y = model.labels(range(FILMED))
    states: list[tuple[list[float], list[Tensor]]] = []

    def velocity(z: list[Tensor], t: Sequence[float], moves: Sequence[bool]) -> list[Tensor | None]:
        states.append((list(t), z))
        times = torch.tensor(t).float().expand(len(y), -1)
        predicted = model.network(z, times, y).x
        clipped = [
            flow.velocity(p.float(), a, times[:, i], 1e-3) for i, (p, a) in enumerate(zip(predicted, z, strict=True))
        ]
        return [v if m else None for v, m in zip(clipped, moves, strict=True)]

    end = sample(velocity, model.noise(range(FILMED), 0), path, "euler")
    states.append((path[-1].tolist(), end))
    picked = [states[k] for k in torch.linspace(0, len(states) - 1, FRAMES).round().int().tolist()]
    streams = [torch.stack([to_uint8(z[0]) for _, z in picked])]
    for i in range(1, len(end)):
        cells = end[i].movedim(1, -1).flatten(0, -2)
        centre, (_, _, axes) = cells.mean(0), torch.pca_lowrank(cells, min(3, cells.shape[1]), center=True)
        spread = ((cells - centre) @ axes).std(0).clamp_min(1e-6)
        frames = []
        for _, z in picked:
            seen = ((z[i].movedim(1, -1) - centre) @ axes / spread / 2).movedim(-1, 1)
            seen = F.pad(seen, (0, 0, 0, 0, 0, 3 - seen.shape[1]))
            frames.append(to_uint8(F.interpolate(seen, size=z[0].shape[-2:])))
        streams.append(torch.stack(frames))
    return {"film": torch.stack(streams, 1), "film_times": torch.tensor([t for t, _ in picked])}


def probe(sweep: str, runs: Path = Path("runs")) -> Path:
    """Measures a network of a sweep; returns the file with the results.

    Raises:
        UserError: no rows, or no training over pixels and a latent is done.
    """
    began = time.monotonic()
    run = chosen(sweep, runs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # torch.pca_lowrank draws
        model = LatentForcing.from_pretrained(run.folder)
        found = square(model, *held_out(run)) | film(model)
    told = {
        "command": f"python -m analysis.probe {sweep}", "run": run.id, "seed": str(run.training.seed),
        "schedule": run.training.schedule.name, "latents": ", ".join(s.name for s in model.streams[1:]),
        "images": str(IMAGES), "revision": revision(),
        "seconds": f"{time.monotonic() - began:.0f}",
    }  # fmt: skip
    file = runs / "reports" / report_name(results.load(sweep, runs)) / "measured.safetensors"
    replace_tensors(file, {"times": TIMES, **found}, {"lf": json.dumps(told)})
    return file


def main(argv: list[str]) -> None:
    options = arguments(__doc__).parse_args(argv)
    file = probe(options.name, options.runs)
    print(file, {name: tuple(tensor.shape) for name, tensor in load_file(file).items()})


if __name__ == "__main__":
    run_command(main)
