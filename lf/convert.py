"""`python -m lf.convert FILE.pth FOLDER [key=value …]`: a public JiT or Latent Forcing checkpoint as a run's folder.

    python -m lf.convert lf_l.pth runs/training/lf_l
    python -m lf.convert lf_l.pth moco latents=[mocov3]

FOLDER can then be used like any training run: ``python -m lf.evaluate run=FOLDER``, ``LatentForcing.from_pretrained``.
The network's size follows from the tensors' shapes. The rest (encoder of the latents, schedule, data) comes from the
arguments stored in the file and from LF's recipe. Any key of the training config can be set, such as
``schedule=independent`` or ``network.class_token_block=8``. A guide in the file (AutoGuidance) becomes a separate run,
FOLDER-guide. How the file's arguments draw images (path, steps, guidance, weights) goes to FOLDER/evaluation.yaml: the
defaults of ``lf.evaluate`` and ``lf.sample`` for this run. Nothing in the file is executed.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from omegaconf import OmegaConf
from torch import Tensor

from lf.config import DEFAULTS, Evaluation, Training
from lf.core.cli import asks_help, help_of, run_command, show_help
from lf.core.errors import UserError
from lf.core.parsing import merge, overrides, parse
from lf.model.public import ENCODERS, Architecture, convert, evaluation_of, quoted, recipe_of
from lf.network import Network
from lf.storage import verified
from lf.storage.atomic import replace, sha256
from lf.storage.checkpoint import NAME, part
from lf.storage.pickles import NotReadable, unpickle

WEIGHTS = {"model": "raw", "model_ema1": "ema", "model_ema2": "ema2"}  # name in the file → our name
OVERRIDES = {  # a key of the training config → the arguments that do not count where it is given
    "schedule": ("sample_mode", "mask_p", "dino_pixel_offset"),
    "lr_schedule": ("lr_schedule",),
    "latents": ("latent_model",),
}


def config_of(
    found: Architecture, recipe: Mapping[str, Any], given: Mapping[str, Any], loss_weight: float | None = None
) -> Training:
    """The training config of a network, as far as it is known, overridden by the ``given`` keys.

    Args:
        found: what the tensors show.
        recipe: what the arguments say (`lf.model.public.recipe_of`).
        given: keys of the training config.
        loss_weight: λ of the latent; by default its encoder's.

    Raises:
        UserError: a key that cannot be inferred must be given, or a given one is wrong.
    """
    base: dict[str, Any] = {"data": "", "resolution": found.resolution, "network": found.network, **recipe}
    if found.latent and "latents" not in base:
        if found.latent in ENCODERS:
            base["latents"] = [ENCODERS[found.latent]]
        elif "latents" not in given:
            raise UserError(f"latents of {found.latent} channels: unknown encoder; name it with latents=[NAME]")
    if "latents" in base and loss_weight is not None:
        base["latents"] = [{**encoder, "loss_weight": loss_weight} for encoder in base["latents"]]
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


def load(path: Path) -> dict[str, Any]:
    """Loads a public ``.pth`` with torch's safe loader, which makes only tensors and plain values.

    A bare state dict, or a file without averages, is read as well: its weights serve as the average.

    Returns:
        ``weights`` (our name → state dict, keys from ``net.`` on), ``args``, ``epoch``, optimizer ``steps`` (None where
        the file has none), and ``rest``, the names of everything else.

    Raises:
        UserError: the file cannot be read, loading it would run code, or it is no checkpoint.
    """
    try:
        file = unpickle(path)
    except NotReadable as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(file, dict):
        file = {}
    found = {ours: file.get(theirs) for theirs, ours in WEIGHTS.items()}
    weights = {ours: state for ours, state in found.items() if _named(state)}
    if not weights and _named(file) and any(isinstance(value, Tensor) for value in file.values()):
        weights, file = {"ema": file}, {}
    if not weights:
        raise UserError(f"{path}: is not a checkpoint of JiT or Latent Forcing: it has no {quoted(list(WEIGHTS))}")
    if "ema" not in weights:
        weights = {"ema": weights.pop("ema2" if "ema2" in weights else "raw"), **weights}
    args, optimizer = file.get("args"), file.get("optimizer")
    moments = optimizer.get("state") if isinstance(optimizer, dict) else None
    each = moments.values() if isinstance(moments, dict) else ()
    counts = [moment.get("step") for moment in each if isinstance(moment, dict)]
    counts = [n.item() if isinstance(n, Tensor) and n.numel() == 1 else n for n in counts]
    steps = [int(n) for n in counts if isinstance(n, int | float) and 0 <= n < 1e12]
    return {
        "weights": {name: _plain_keys(state) for name, state in weights.items()},
        "args": vars(args) if isinstance(args, argparse.Namespace) else args if isinstance(args, dict) else {},
        "epoch": int(file["epoch"]) if str(file.get("epoch", "")).isdecimal() else None,
        "steps": max(steps, default=None),
        "rest": [key for key in file if key not in (*WEIGHTS, "epoch", "args")],
    }


def _named(state: Any) -> TypeGuard[dict[str, Any]]:
    """Whether it is a dict, not empty, with names as keys."""
    return isinstance(state, dict) and bool(state) and all(isinstance(key, str) for key in state)


def _plain_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state dict without the prefixes of DistributedDataParallel and torch.compile; the network's below ``net.``."""
    plain = {key.removeprefix("module.").replace("_orig_mod.", ""): value for key, value in state.items()}
    inside = any(key.startswith("net.") for key in plain)
    return {key if inside else f"net.{key}": value for key, value in plain.items()}


def write(
    place: Path, file: Mapping[str, Any], prefix: str, given: Mapping[str, Any], source: Any, guide: str = ""
) -> Training:
    """Writes the network below ``prefix.`` of all sets of weights as a run's folder.

    Args:
        place: the folder.
        file: what `load` returned.
        prefix: ``net``, or ``ag_net`` for the guide.
        given: keys of the training config that override what the file says.
        source: where the weights come from, for ``config.json``.
        guide: name of the folder beside it for the guide that is in the same file.
    """
    tensors: dict[str, Tensor] = {}
    for ours, state in file["weights"].items():
        try:
            found, network = convert(part(state, prefix))
        except UserError as error:
            theirs = next(name for name, our in WEIGHTS.items() if our == ours)
            raise UserError(f"{source['file']}, {theirs}, {prefix}.*: {error}") from None
        tensors |= {f"{ours}.{key}": value for key, value in network.items()}
    args = file["args"] if prefix == "net" else {}  # the guide was trained with others
    latent, repa = bool(found.latent), "repa_width" in found.network
    overridden = {name for key, names in OVERRIDES.items() if key in given for name in names}
    named = {name: value for name, value in args.items() if name not in overridden}
    recipe = recipe_of({**file, "args": named}, latent, repa)
    training = config_of(found, recipe, given, args.get("dino_weight") if latent else None)
    _check(tensors, training, found.classes, list(file["weights"]))
    owners = {value.data_ptr(): key for key, value in tensors.items()}  # safetensors files cannot share storage
    tensors = {key: value if owners[value.data_ptr()] == key else value.clone() for key, value in tensors.items()}
    verified.write(place / NAME, tensors, {"step": str(training.steps)})
    config = training.model_dump(mode="json", exclude={"runtime"}) | {"source": source}
    replace(place / "config.json", json.dumps(config, indent=1))
    if args:
        names = training.stream_names
        drawn = evaluation_of(named, training.schedule.name, names[1] if latent else "", guide)
        parse(Evaluation, drawn, "evaluation")
        replace(place / DEFAULTS, OmegaConf.to_yaml({"evaluation": drawn}))
    return training


def _check(tensors: Mapping[str, Tensor], training: Training, classes: int, names: list[str]) -> None:
    """Raises `UserError` unless the tensors are sets of weights ``names`` of this config's network."""
    with torch.device("meta"):
        network = Network(training.network, training.streams, classes).state_dict()
    expected = {f"{ours}.{key}": value for ours in names for key, value in network.items()}
    missing, more = [k for k in expected if k not in tensors], [k for k in tensors if k not in expected]
    if missing or more:
        lists = [f"{what} {quoted(keys)}" for what, keys in (("missing", missing), ("unexpected", more)) if keys]
        raise UserError(f"the file's tensors are not those of this config's network: {'; '.join(lists)}")
    for key, value in expected.items():
        if value.shape != tensors[key].shape:
            shapes = f"{tuple(tensors[key].shape)} in the file, {tuple(value.shape)} in this config's network"
            raise UserError(f"{key}: {shapes}")


def _summary(training: Training) -> str:
    network, streams = training.network, " + ".join(training.stream_names)
    parts = {f"experts of {network.expert_width}": network.expert_width, "REPA": network.repa_block is not None}
    size = f"{network.depth} blocks of {network.width}"
    return ", ".join([streams, size, *(name for name, there in parts.items() if there), f"{training.steps} steps"])


def main(argv: list[str]) -> None:
    if asks_help(argv):
        show_help(__doc__, help_of(Training, None, without=("runtime",)), "the file's, and LF's recipe")
    if len(argv) < 2 or "=" in argv[1]:
        raise UserError("usage: python -m lf.convert FILE.pth FOLDER [key=value …]; see --help")
    path, out, given = Path(argv[0]), Path(argv[1]), overrides(argv[2:])
    guide = out.with_name(f"{out.name}-guide")
    file = load(path)
    prefixes = {key.partition(".")[0] for key in file["weights"]["ema"]}
    folders = {"net": out} | ({"ag_net": guide} if "ag_net" in prefixes else {})
    for folder in folders.values():
        if folder.exists():
            raise UserError(f"{folder}: exists and is not overwritten")
    source = {"file": path.name, "sha256": sha256(path), "epoch": file["epoch"]}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}") from None
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        written = {}
        for prefix in folders:
            mine = given if prefix == "net" else {k: v for k, v in given.items() if k != "network"}
            weak = guide.name if "ag_net" in folders and prefix == "net" else ""
            written[prefix] = write(Path(temporary) / prefix, file, prefix, mine, source, weak)
        for prefix, folder in folders.items():
            os.rename(Path(temporary) / prefix, folder)
    left = file["rest"] + sorted(f"{prefix}.*" for prefix in prefixes - set(folders))
    print(f"not used: {', '.join(left) or 'nothing'}")
    if missing := [name for name in WEIGHTS.values() if name not in file["weights"]]:
        print(f"not in the file: {', '.join(missing)}; weights that can be asked for: {', '.join(file['weights'])}")
    for prefix, folder in folders.items():
        print(f"{folder}: {_summary(written[prefix])}")


if __name__ == "__main__":
    run_command(main)
