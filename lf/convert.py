"""`python -m lf.convert FILE.pth FOLDER [key=value …]`: a public JiT or Latent Forcing checkpoint as a run's folder.

    python -m lf.convert lf_l.pth runs/training/lf_l
    python -m lf.convert lf_l.pth moco latents=[mocov3]

FOLDER can then be used like any training run: ``python -m lf.evaluate run=FOLDER``, ``LatentForcing.from_pretrained``.
The network's size follows from the tensors' shapes. The rest (encoder of the latents, schedule, data) comes from the
arguments stored in the file and from LF's recipe. Any key of the training config can be set, such as
``schedule=independent`` or ``network.class_token_block=8``. A guide in the file (AutoGuidance) becomes a separate run,
FOLDER-guide. Nothing in the file is executed.
"""

import argparse
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lf.config import Training
from lf.core.cli import run_command, show_help
from lf.core.errors import UserError
from lf.core.parsing import merge, overrides, parse
from lf.network import SIZES, Network
from lf.network.embed import sincos_positions
from lf.storage.atomic import replace, replace_tensors, sha256
from lf.storage.checkpoint import NAME, part
from lf.storage.pickles import NotReadable, unpickle

WEIGHTS = {"model": "raw", "model_ema1": "ema", "model_ema2": "ema2"}  # name in the file → our name
ENCODERS = {768: "dinov2", 1024: "data2vec2", 48: "pixels"}  # channels of the latent → its encoder
IMAGENET = 1_281_167  # training images

JIT = {"t_embedder": "time.0", "x_embedder": "embed.0"}
LF = {
    "t_pixel_embedder": "time.0", "pixel_embedder": "embed.0",
    "t_dino_embedder":  "time.1", "dino_embedder":  "embed.1",
    "dh_pixel_proj": "branches.0.proj", "dh_blocks_pixel": "branches.0.blocks", "final_layer_pixel": "branches.0.head",
    "dh_dino_proj":  "branches.1.proj", "dh_blocks_dino":  "branches.1.blocks", "final_layer_dino":  "branches.1.head",
}  # fmt: skip
BOTH = {
    "in_context_posemb": "class_position", "y_embedder.embedding_table": "label", "blocks": "blocks",
    "final_layer": "head", "repa_projection": "repa",
}  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """A network's architecture, as far as the tensors' shapes show it.

    Attributes:
        network: fields of `NetworkConfig`.
        resolution: of the images, in pixels.
        latent: channels of the latent stream; 0: none.
        classes: number of classes.
    """

    network: dict[str, Any]
    resolution: int
    latent: int
    classes: int


def convert(state: Mapping[str, Tensor]) -> tuple[Architecture, dict[str, Tensor]]:
    """The architecture of a public state dict, and its tensors, renamed as in `lf.network.Network`.

    Raises:
        UserError: the state dict is not of JiT or Latent Forcing.
    """

    def shape(key: str, dimensions: int) -> torch.Size:
        if key not in state:
            raise UserError(f"it has no '{key}': neither JiT nor Latent Forcing")
        if state[key].dim() != dimensions:
            raise UserError(f"{key}: has {state[key].dim()} dimensions instead of {dimensions}")
        return state[key].shape

    def count(blocks: str) -> int:
        return len({key.split(".")[1] for key in state if key.startswith(f"{blocks}.")})

    lf = "dino_embedder.proj1.weight" in state
    names = {theirs: ours for theirs, ours in (BOTH | (LF if lf else JIT)).items()}
    tensors, unknown = {}, []
    for key, value in state.items():
        start = next((name for name in names if key == name or key.startswith(f"{name}.")), None)
        if start and isinstance(value, Tensor):
            tensors[names[start] + key.removeprefix(start)] = value.float()
        elif key != "pos_embed":
            unknown.append(key)
    if unknown:
        raise UserError(f"unknown tensors: {_few(unknown)}")

    _, tokens, width = shape("pos_embed", 3)
    grid = math.isqrt(tokens)
    if grid**2 != tokens or not state["pos_embed"][0].float().allclose(sincos_positions(grid, width), atol=1e-5):
        raise UserError("pos_embed: is not the fixed 2-D sines and cosines that JiT adds")
    bottleneck, _, _, patch = shape("pixel_embedder.proj1.weight" if lf else "x_embedder.proj1.weight", 4)
    network = {
        "depth": count("blocks"),
        "width": width,
        "heads": width // shape("blocks.0.attn.q_norm.weight", 1)[0],
        "bottleneck": bottleneck,
        "patch": patch,
        "class_tokens": shape("in_context_posemb", 3)[1] if "in_context_posemb" in state else 0,
    }
    if network["class_tokens"]:
        tensors["class_position"] = tensors["class_position"][0]
    for size in SIZES.values():
        if (size["depth"], size["width"]) == (network["depth"], width):
            network["class_token_block"] = size["class_token_block"]
    if "dh_pixel_proj.weight" in state:
        network |= {"expert_width": shape("dh_pixel_proj.weight", 2)[0], "expert_depth": count("dh_blocks_pixel")}
    if "repa_projection.4.weight" in state:
        network["repa_width"] = shape("repa_projection.4.weight", 2)[0]
    latent = shape("dino_embedder.proj1.weight", 4)[1] if lf else 0
    return Architecture(network, grid * patch, latent, shape("y_embedder.embedding_table.weight", 2)[0] - 1), tensors


def config_of(found: Architecture, recipe: Mapping[str, Any], given: Mapping[str, Any]) -> Training:
    """The training config of a network, as far as it is known, overridden by the ``given`` keys.

    Raises:
        UserError: a key that cannot be inferred must be given, or a given one is wrong.
    """
    base: dict[str, Any] = {"data": "", "resolution": found.resolution, "network": found.network, **recipe}
    if found.latent and "latents" not in base:
        if found.latent not in ENCODERS and "latents" not in given:
            raise UserError(f"latents of {found.latent} channels: unknown encoder; name it with latents=[NAME]")
        base["latents"] = [ENCODERS.get(found.latent)]
    repa = "repa_width" in found.network
    if repa:
        base["repa"] = ENCODERS.get(found.network["repa_width"])
    values = merge(base, given)
    if isinstance(network := values["network"], Mapping):
        block = network.get("class_token_block")
        if block is None and (repa or found.network["class_tokens"]):
            raise UserError(
                f"no released size has depth {found.network['depth']} and width {found.network['width']}: "
                "give the block of the class tokens, network.class_token_block=N"
            )
        if repa:  # the public baseline aligns the input of the block of the class tokens
            values["network"] = {"repa_block": block, **network}
    return parse(Training, values)


def recipe_of(file: Mapping[str, Any], latent: bool) -> dict[str, Any]:
    """How the network was trained: the arguments in the file; for those that are missing, the published recipe."""
    args = vars(file.get("args", argparse.Namespace()))
    epochs = file.get("epoch", 0) + 1
    batch = args.get("batch_size", 1024) * args.get("world_size", 1)
    moments = file.get("optimizer", {}).get("state", {}).values()
    steps = max((int(moment["step"]) for moment in moments), default=epochs * (IMAGENET // batch))
    steps = max(steps, 1)
    names = {"P_mean": "P_mean", "P_std": "P_std", "t_eps": "t_clip"}
    names |= {"D_mean": "D_mean", "D_std": "D_std"} if latent else {}
    return {
        "steps": steps,
        "batch": batch,
        "lr": args.get("lr") or 5e-5 * batch / 256,
        "warmup": min(round(args.get("warmup_epochs", 5) * steps / epochs), steps),
        "ema": [args.get("ema_decay1", 0.9999), args.get("ema_decay2", 0.9998)],
        "flip": True,
        "noise_scale": args.get("noise_scale", 1.0),
        "label_dropout": args.get("label_drop_prob", 0.1),
        "weight_decay": args.get("weight_decay", 0.0),
        "seed": args.get("seed", 0),
        "schedule": {"name": "cascaded" if latent else "pixel_only"}
        | {ours: args[theirs] for theirs, ours in names.items() if theirs in args},
        **({"latents": ["mocov3"]} if args.get("latent_model") == "mocov3" else {}),  # as wide as DINOv2
    }


def load(path: Path) -> dict[str, Any]:
    """Loads a public ``.pth`` with torch's safe loader, which makes only tensors and plain values.

    Raises:
        UserError: the file cannot be read, or loading it would run code.
    """
    try:
        file = unpickle(path)
    except NotReadable as error:
        raise UserError(f"cannot read {path}: {error}") from None
    missing = [key for key in WEIGHTS if not isinstance(file, dict) or not isinstance(file.get(key), dict)]
    if missing:
        raise UserError(f"{path}: is not a checkpoint of JiT or Latent Forcing: it has no {_few(missing)}")
    return file


def write(place: Path, file: Mapping[str, Any], prefix: str, given: Mapping[str, Any], source: Any) -> Training:
    """Writes the network below ``prefix.`` of all three state dicts as a run's folder."""
    tensors: dict[str, Tensor] = {}
    for theirs, ours in WEIGHTS.items():
        try:
            found, network = convert(part(file[theirs], prefix))
        except UserError as error:
            raise UserError(f"{source['file']}, {theirs}, {prefix}.*: {error}") from None
        tensors |= {f"{ours}.{key}": value for key, value in network.items()}
    training = config_of(found, recipe_of(file, bool(found.latent)), given)
    _check(tensors, training, found.classes)
    owners = {value.data_ptr(): key for key, value in tensors.items()}  # safetensors files cannot share storage
    tensors = {key: value if owners[value.data_ptr()] == key else value.clone() for key, value in tensors.items()}
    replace_tensors(place / NAME, tensors, {"step": str(training.steps)})
    config = training.model_dump(mode="json", exclude={"runtime"}) | {"source": source}
    replace(place / "config.json", json.dumps(config, indent=1))
    return training


def _check(tensors: Mapping[str, Tensor], training: Training, classes: int) -> None:
    """Raises `UserError` unless the tensors are three sets of weights of this config's network."""
    with torch.device("meta"):
        network = Network(training.network, training.streams, classes).state_dict()
    expected = {f"{ours}.{key}": value for ours in WEIGHTS.values() for key, value in network.items()}
    missing, more = [k for k in expected if k not in tensors], [k for k in tensors if k not in expected]
    if missing or more:
        lists = [f"{what} {_few(keys)}" for what, keys in (("missing", missing), ("unexpected", more)) if keys]
        raise UserError(f"the file's tensors are not those of this config's network: {'; '.join(lists)}")
    for key, value in expected.items():
        if value.shape != tensors[key].shape:
            shapes = f"{tuple(tensors[key].shape)} in the file, {tuple(value.shape)} in this config's network"
            raise UserError(f"{key}: {shapes}")


def _summary(training: Training) -> str:
    network, streams = training.network, " + ".join(stream.name for stream in training.streams)
    parts = {f"experts of {network.expert_width}": network.expert_width, "REPA": network.repa_block is not None}
    size = f"{network.depth} blocks of {network.width}"
    return ", ".join([streams, size, *(name for name, there in parts.items() if there), f"{training.steps} steps"])


def _few(keys: list[str]) -> str:
    return ", ".join(f"'{key}'" for key in keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def main(argv: list[str]) -> None:
    show_help(argv, __doc__, Training)
    if len(argv) < 2 or "=" in argv[1]:
        raise UserError("usage: python -m lf.convert FILE.pth FOLDER [key=value …]; see --help")
    path, out, given = Path(argv[0]), Path(argv[1]), overrides(argv[2:])
    guide = out.with_name(f"{out.name}-guide")
    file = load(path)
    prefixes = {key.partition(".")[0] for key in file["model"]}
    folders = {"net": out} | ({"ag_net": guide} if "ag_net" in prefixes else {})
    for folder in folders.values():
        if folder.exists():
            raise UserError(f"{folder}: exists and is not overwritten")
    source = {"file": path.name, "sha256": sha256(path), "epoch": file.get("epoch")}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}") from None
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        written = {}
        for prefix in folders:
            mine = given if prefix == "net" else {k: v for k, v in given.items() if k != "network"}
            written[prefix] = write(Path(temporary) / prefix, file, prefix, mine, source)
        for prefix, folder in folders.items():
            os.rename(Path(temporary) / prefix, folder)
    left = [key for key in file if key not in (*WEIGHTS, "epoch", "args")]
    left += sorted(f"{prefix}.*" for prefix in prefixes - set(folders))
    print(f"not used: {', '.join(left) or 'nothing'}")
    for prefix, folder in folders.items():
        print(f"{folder}: {_summary(written[prefix])}")


if __name__ == "__main__":
    run_command(main)
