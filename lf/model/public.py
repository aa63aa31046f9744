"""Public JiT and Latent Forcing networks: what their state dicts and their arguments say, in this project's terms."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lf.core.errors import UserError, few, nearest
from lf.network import SIZES
from lf.network.embed import sincos_positions

LATENT_MODELS: dict[str, dict[str, Any]] = {  # as the public code scales them
    "dino": {"name": "dinov2"},
    "mocov3": {"name": "mocov3", "eps": 0},
    "d2v2": {"name": "data2vec2", "eps": 0},
    "pixeldownsample": {"name": "pixels", "unit": True},
}
ENCODERS = {768: LATENT_MODELS["dino"], 1024: LATENT_MODELS["d2v2"], 48: LATENT_MODELS["pixeldownsample"]}
"""Channels of a latent → its encoder, where the arguments name none."""
IMAGENET = 1_281_167  # training images
SWITCH = 0.999  # time of the latent from which its code uses the guide
DRIFT = 2e-4
"""How far a float32 average of the constant position table drifts: ``0.9999 + 1e-4`` is not 1 in float32.

Its fixed point, ``p (1e-4 / (1 - 0.9999))`` in float32, lies 1.64e-4 from the table ``p`` of values in [-1, 1].
"""

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
    """The architecture of a public state dict, and its tensors in float32, renamed as in `lf.network.Network`.

    Raises:
        UserError: the state dict is not of JiT or Latent Forcing, or holds values that are not finite.
    """

    def shape(key: str, dimensions: int) -> torch.Size:
        if key not in state:
            raise UserError(f"it has no '{key}': neither JiT nor Latent Forcing")
        if not isinstance(state[key], Tensor):
            raise UserError(f"{key}: is no tensor")
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
        raise UserError(f"unknown tensors: {quoted(unknown)}")
    if bad := [key for key, value in tensors.items() if not value.isfinite().all()]:
        raise UserError(f"values that are not finite in {quoted(bad)}")

    _, tokens, width = shape("pos_embed", 3)
    grid = math.isqrt(tokens)
    if grid**2 != tokens or not _is_the_table(state["pos_embed"][0], grid, width):
        raise UserError("pos_embed: is not the fixed 2-D sines and cosines that JiT adds")
    bottleneck, _, _, patch = shape("pixel_embedder.proj1.weight" if lf else "x_embedder.proj1.weight", 4)
    if lf and (other := shape("dino_embedder.proj1.weight", 4)[0]) != bottleneck:
        raise UserError(f"bottleneck_dim_dino={other}: must equal that of the pixels here, {bottleneck}")
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


def _is_the_table(found: Tensor, grid: int, width: int) -> bool:
    """Whether it is the constant position table, averaged in float32 or rounded to half precision."""
    rounding = torch.finfo(found.dtype).eps if found.dtype != torch.float32 else 0.0
    return found.float().allclose(sincos_positions(grid, width), rtol=0, atol=DRIFT + rounding)


# --- what the arguments say

SCHEDULES = {  # sample_mode → schedule
    "dino_first_cascaded_noised": "cascaded",
    "dino_first_cascaded": "cascaded",
    "dino_first_shifted_aligned": "shifted",
    "shifted_independent_uniform": "independent",
    "eval_shifted": "independent",
    "dino_only": "latent_only",
    "pixel_only": "pixel_only",
}
PARAMETERS: dict[str, dict[str, str]] = {  # schedule → argument → parameter
    "cascaded": {"P_mean": "P_mean", "P_std": "P_std", "D_mean": "D_mean", "D_std": "D_std",
                 "choose_dino_p": "p_latent", "dino_max_t": "latent_max"},
    "shifted": {"P_mean": "P_mean", "P_std": "P_std", "D_mean": "D_mean", "D_std": "D_std",
                "choose_dino_p": "p_latent", "dino_pixel_shift": "alpha"},
    "independent": {},
    "latent_only": {"D_mean": "D_mean", "D_std": "D_std"},
    "pixel_only": {"P_mean": "P_mean", "P_std": "P_std"},
}  # fmt: skip


def schedule_of(args: Mapping[str, Any], latent: bool) -> dict[str, Any]:
    """The schedule that a file's arguments name; LF's recipe, `cascaded`, or JiT's where they name none.

    Raises:
        UserError: a mode of training that is not here.
    """
    mode = args.get("sample_mode", "default") if latent else "pixel_only"
    if mode == "default":
        mode = "dino_first_cascaded_noised"
    if mode not in SCHEDULES:
        raise UserError(f"sample_mode={mode}: not supported; {nearest(str(mode), SCHEDULES)}; or give schedule=NAME")
    if args.get("mask_p"):
        raise UserError(f"mask_p={args['mask_p']}: training with masked streams is not supported; give schedule=NAME")
    name = SCHEDULES[mode]
    found = {ours: args[theirs] for theirs, ours in PARAMETERS[name].items() if theirs in args}
    if mode == "dino_first_cascaded":
        found["beta"] = 0.0
    if "t_eps" in args:
        found["t_clip"] = args["t_eps"]
    return {"name": name, **found}


def recipe_of(file: Mapping[str, Any], latent: bool, repa: bool = False) -> dict[str, Any]:
    """How the network was trained: the arguments in the file; for those that are missing, the published recipe.

    Raises:
        UserError: an argument that this project cannot represent; it is named.
    """
    args = file["args"]
    epochs = (file["epoch"] or 0) + 1
    batch = args.get("batch_size", 1024) * args.get("world_size", 1)
    steps = max(file["steps"] or epochs * (IMAGENET // batch), 1)
    if args.get("lr_schedule", "constant") not in ("constant", "cosine"):
        raise UserError(f"lr_schedule={args['lr_schedule']}: ends elsewhere than here; give lr_schedule=NAME")
    recipe = {
        "steps": steps,
        "batch": batch,
        "lr": args.get("lr") or 5e-5 * batch / 256,
        "lr_schedule": args.get("lr_schedule", "constant"),
        "warmup": min(round(args.get("warmup_epochs", 5) * steps / epochs), steps),
        "ema": [args.get("ema_decay1", 0.9999), args.get("ema_decay2", 0.9998)],
        "flip": True,
        "noise_scale": args.get("noise_scale", 1.0),
        "label_dropout": args.get("label_drop_prob", 0.1),
        "weight_decay": args.get("weight_decay", 0.0),
        "seed": args.get("seed", 0),
        "schedule": schedule_of(args, latent),
    }
    if repa and "dino_weight" in args:
        recipe["repa_weight"] = args["dino_weight"]
    if latent and "latent_model" in args:
        name = args["latent_model"]
        if name not in LATENT_MODELS:
            raise UserError(
                f"latent_model={name}: not supported; {nearest(name, LATENT_MODELS)}; or give latents=[NAME]"
            )
        recipe["latents"] = [LATENT_MODELS[name]]
    return recipe


def evaluation_of(args: Mapping[str, Any], schedule: str, latent: str, guide: str) -> dict[str, Any]:
    """How the public code draws images with these arguments, as values of `lf.config.Evaluation`.

    Args:
        args: the file's arguments.
        schedule: name of the training's schedule.
        latent: name of the latent stream; empty without one.
        guide: folder of the weaker network; empty if the file has none, which AutoGuidance then asks for.

    Raises:
        UserError: a path that this project cannot represent.
    """
    settings: dict[str, Any] = {}
    named = {"num_sampling_steps": "steps", "sampling_method": "solver", "t_eps_inference": "t_clip"}
    settings |= {ours: args[theirs] for theirs, ours in named.items() if theirs in args}
    if "t_clip" not in settings and "t_eps" in args:
        settings["t_clip"] = args["t_eps"]
    if "generation_ema" in args:
        settings["weights"] = {"none": "raw", "1": "ema", "2": "ema2"}.get(str(args["generation_ema"]), "ema")
    if path := _path_of(args, schedule):
        settings["path"] = path
    shifts = {"pixels": args.get("gen_shift_pixel", 1.0), latent: args.get("gen_shift_dino", 1.0)}
    if schedule == "cascaded" and (shift := {name: a for name, a in shifts.items() if name and a != 1}):
        settings["shift"] = shift
    scale = {"pixels": args.get("cfg", 1.0)} | ({latent: args.get("cfg_dino", 1.0)} if latent else {})
    if scale := {name: s for name, s in scale.items() if s != 1}:
        ends = {"pixels": ("interval_min", "interval_max"), latent: ("interval_min_dino", "interval_max_dino")}
        interval = {name: [args.get(ends[name][0], 0.0), args.get(ends[name][1], 1.0)] for name in scale}
        kind = args.get("guidance_method", "cfg")
        kind = {"cfg": "cfg", "autoguidance": "autoguidance", "cfg_interval": "cfg_then_autoguidance"}.get(kind, kind)
        kind = "cfg" if kind == "cfg_then_autoguidance" and not guide else kind
        settings["guidance"] = {
            "kind": kind,
            **({"switch": SWITCH} if kind == "cfg_then_autoguidance" else {}),
            "scale": scale,
            "interval": {name: ends for name, ends in interval.items() if ends != [0, 1]},
            **({"guide": guide} if "autoguidance" in kind and guide else {}),
        }
    return settings


def _path_of(args: Mapping[str, Any], schedule: str) -> dict[str, Any]:
    """The path of sampling where it is not the training schedule's own."""
    offset, shift = args.get("dino_pixel_offset", 0.0), args.get("dino_pixel_shift", 1.0)
    if schedule not in ("shifted", "independent") or not offset and schedule == "shifted":
        return {}
    alpha = shift if schedule == "shifted" else shift**2
    if alpha == 1 and offset:
        return {"name": "offset", "offset": offset}
    return {"name": "shifted", "alpha": alpha} | ({"offset": offset} if offset else {})


def quoted(keys: Sequence[str]) -> str:
    """The first of a list of names, in quotes, for an error."""
    return few([f"'{key}'" for key in keys])
