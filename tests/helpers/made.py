"""Run stores as sweeps leave them, with made-up scores: what the analysis of every question is tested on."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.utils.tensorboard import SummaryWriter
from toy import training

from lf.config import Evaluation, identity
from lf.core.parsing import parse

GUIDED = ("none", "cfg")
ORDERS = ("cascaded", "offset", "shifted")
HOW = ("path", "alpha", "guidance", "inference_noise", "lead", "given", "noise")  # labels of sampling alone
CELLS: dict[str, Sequence[dict[str, Any]]] = {
    "order_ablation": [
        *({"latent": latent, "model": "independent", "path": "shifted", "alpha": a}
          for latent, a in product(("tiny", "pixels"), (1 / 16, 1 / 4, 1, 4, 16))),
        {"latent": "tiny", "model": "independent", "path": "cascaded"},
        {"latent": "tiny", "model": "cascaded", "path": "cascaded"},
        {"latent": "none", "model": "pixel_only", "path": "pixel_only"},
    ],
    "single_schedule": [{"model": m, "guidance": g}
                        for m, g in product(("cascaded", "offset", "shifted", "pixel_only"), GUIDED)],
    "p_latent": [{"p_latent": p, "guidance": g} for p, g in product((0.3, 0.4, 0.8), GUIDED)],
    "p_mean_d_mean": [{"D_mean": d, "P_mean": p, "guidance": "none"}
                      for d, p in ((-1.0, -0.4), (-1.2, -0.4), (-1.4, -0.4), (-1.2, 0.0), (-1.2, -0.8))],
    "components": [{"components": c, "guidance": g}
                   for c, g in product(("all", "no experts", "no early pixels"), GUIDED)],
    "latent_noise": [{"latent_noise": b, "length": length, "guidance": "none"}
                     for b, length in product((0.0, 0.25, 0.5), ("short", "long"))],
    "inference_noise": [{"inference_noise": i, "guidance": g} for i, g in product((0.0, 0.05, 0.1, 0.25), GUIDED)],
    "distillation": [{"model": m, "latent": latent, "labels": labels, "guidance": g}
                     for (m, latent), labels, g in product((("JiT", "none"), ("JiT+REPA", "dinov2"), ("LF", "dinov2")),
                                                           ("conditional", "unconditional"), GUIDED)],
    "repa_placement": [{"place": p, "guidance": "none"} for p in ("none", "block 0", "block 2", "tokenizer")],
    "diffusability": [{"tokenizer": t, "channels": c, "guidance": g}
                      for t, c, g in product(("plain", "aligned"), (2, 8, 32), ("none", "cfg"))],
    "conditioning_order": [{"latents": "tiny", "order": o, "model": m, "guidance": g}
                           for o, m, g in product(("pixels, tiny", "tiny, pixels", "together"),
                                                  ("independent", "trained for it"), GUIDED)],
    "lead": [{"lead": x, "guidance": g} for x, g in product((0.0, 0.15, 1.0), GUIDED)],
    "attribution": [{"latent": latent, "given": given, "noise": n, "guidance": "none"}
                    for latent in ("tiny", "pixels_latent") for given, n in product(("no", latent), (0.0, 0.25))],
    "specialisation": [{"latent": latent, "order": o, "training": t, "share": s}
                       for latent, t, s in (("tiny", "specialised", 0.1), ("tiny", "trunk trained on", 0.1),
                                            ("tiny", "specialised", 0.2), ("tiny", "trunk trained on", 0.2),
                                            ("pixels", "specialised", 0.2), ("tiny", "from scratch", 1.0))
                       for o in ORDERS],
    "system": [{"model": m, "guidance": g} for m, g in product(("JiT", "LF"), GUIDED)],
}  # fmt: skip
"""The labels that each sweep of the paper's questions gives its cells, the seed apart."""

Change = Callable[[dict[str, Any], dict[str, Any]], None]


def titled(labels: Mapping[str, Any]) -> str:
    return " ".join(f"{k} {v}" for k, v in labels.items())


def cells(name: str, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    for labels in CELLS[name]:
        for seed in seeds:
            yield {**labels, "seed": seed}


def from_a_trunk(labels: Mapping[str, Any]) -> bool:
    """Whether a cell of the question `specialisation` begins with a trunk."""
    return labels.get("training", "from scratch") != "from scratch"


def made(
    runs: Path,
    name: str,
    seeds: Sequence[int] = (0, 1, 2),
    change: Change | None = None,
    *,
    steps: int = 60,
    words: Sequence[str] = ("seeds=[0,1,2]",),
    begun: Callable[[dict[str, Any]], bool] = from_a_trunk,
) -> Path:
    """Writes the sweep ``name`` into the store ``runs``, and returns ``runs``.

    ``change(labels, row)`` may change rows. Trainings take ``steps``, or the share of them that a label says; those of
    cells that have ``begun(labels)`` begin with the trunk of their seed. ``words`` are those of the launch.
    """
    noted = []
    for labels in cells(name, seeds):
        draw = torch.Generator().manual_seed(int(identity(name, labels), 16) % 2**31)
        schedule = labels.get("model") if labels.get("model") in ("cascaded", "pixel_only") else "independent"
        latent = [] if schedule == "pixel_only" else ["latents=[{name: pixels, cells: 2}]"]
        if labels.get("training") in ("specialised", "from scratch"):
            schedule = labels["order"]
        seed, length = f"seed={labels['seed']}", max(1, round(labels.get("share", 1) * steps))
        config = training(f"schedule={schedule}", *latent, seed, f"steps={length}")
        trained = config.model_dump(mode="json", exclude={"runtime"}) | {"data_digest": "0" * 16}
        if begun(labels):
            trunk = identity("trunk", {"seed": labels["seed"]})
            of = training("schedule=independent", *latent, seed, f"steps={steps}")
            write(runs / "training" / trunk / "config.json", of.model_dump(mode="json", exclude={"runtime"}))
            init = {"name": str(runs / "training" / trunk), "weights": "ema"}
            trained |= {"init": init, "contents": {"init.name": trunk}}
        trained_on = {k: v for k, v in labels.items() if k not in HOW}
        training_id = identity(name, trained_on)
        folder = runs / "training" / training_id
        if not folder.exists():
            write(folder / "config.json", trained)
            write(folder / "row.json", {"id": training_id, "loss": 0.5, "seconds": 9.0, "seconds_per_step": 0.1})
            with SummaryWriter(str(folder)) as board:
                for step in range(50, 501, 50):
                    board.add_scalar("loss", 1 + 50 / step, step)
                    board.add_scalar("loss/pixels", 0.5 + 40 / step, step)
        guidance: dict[str, Any] = {"kind": "none"}
        if labels.get("guidance", "none") != "none":
            guidance = {"kind": "cfg", "scale": {"pixels": 1.5}}
        path = {"name": "shifted", "alpha": labels["alpha"]} if "alpha" in labels else schedule
        if path == "independent":
            path = labels["order"] if "training" in labels else "cascaded"
        asked = {"n": 100, "steps": 4, "guidance": guidance, "path": path}
        evaluation = parse(Evaluation, asked, "evaluation").model_dump(mode="json")
        evaluation_id = identity(name, labels)
        config_there = evaluation | {"training": training_id}
        fd = 10 + len(titled(labels)) / 4 + torch.rand((), generator=draw).item()
        judging = {"lf-judge": {"weights": "b904", "reference": "cd20", "reference_n": 200, "n": 100}}
        row = config_there | {
            "id": evaluation_id, "data": "shapes", "labels": "balanced", "score": "FD-shapes", "judging": judging,
            "fd": fd, "class_accuracy": 0.9, "agreement": 1 / fd, "real_fd": 0.5, "real_n": 100.0, "seconds": 1.0,
        }  # fmt: skip
        if name == "diffusability":
            row |= {"psnr": 20.0 + labels["channels"], "rfd": 3.0 / labels["channels"]}
        if change:
            change(labels, row)
        write(runs / "evaluation" / evaluation_id / "config.json", config_there)
        if row:
            write(runs / "evaluation" / evaluation_id / "row.json", row)
            images = torch.randint(256, (16, 3, 16, 16), dtype=torch.uint8, generator=draw)
            save_file({"images": images}, runs / "evaluation" / evaluation_id / "samples.safetensors")
        noted.append(labels | {"title": titled(labels), "training_id": training_id, "evaluation_id": evaluation_id})
    unit = {"key": "a" * 12, "title": "the one that failed", "kind": "evaluate"}
    asked_as = {"question": f"What does {name} ask?\n\n    python -m sweeps.launch {name}", "words": [*words]}
    write(runs / "sweeps" / name / "sweep.json", asked_as | {"sweep": name, "cells": noted, "units": [unit]})
    return runs


def write(file: Path, what: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(what))
