"""JiT, JiT+REPA and LF at each preset, their guidance, and the length of ablation trainings."""

from typing import Any

from lf.config.presets import JIT, LF, REPA

# fmt: off
# JiT, JiT+REPA and LF as changes to the preset's training; and their guidance, by the streams of the network.
# JiT's guidance is that of its public code. AutoGuidance needs a weaker network, such as preset `lf_s_guide`.
MODELS: dict[str, dict[str, Any]] = {
    "shapes": {
        "jit": {},
        "repa": {"repa": {"name": "tiny"}, "network": {"repa_block": 2, "repa_width": 8}},
        # D_mean -1.2 suits 768 channels, whose noise averages out; 8 channels become distinct from noise later
        "lf": {"latents": [{"name": "tiny"}], "schedule": {"name": "cascaded", "D_mean": -0.4}},
    },
    "imagenet256": {
        "jit": {**JIT, "network": {"size": "L", "expert_width": 0}},
        "repa": {**REPA, "network": {"size": "L", "expert_width": 0, "repa_block": 8}},
        "lf": LF,
    },
}
GUIDED: dict[str, dict[str, dict[str, Any]]] = {
    "shapes": {"": {"kind": "cfg", "scale": 1.5}},
    "imagenet256": {
        "": {"kind": "cfg", "scale": 1.5},
        "pixels": {"kind": "cfg", "scale": 2.9, "interval": [0.1, 1.0]},
        "pixels dinov2": {"kind": "autoguidance", "scale": 1.5},
    },
}
# Steps of an ablation's training, relative to the preset's. `order_ablation` takes all: its model learns every order.
ABLATION = {"shapes": 0.5, "imagenet256": 1.0}
SMOKE: dict[str, dict[str, Any]] = {  # values of budget=smoke
    "training": {"steps": 6, "batch": 8, "warmup": 0, "network": {"width": 32, "heads": 2}},
    "evaluation": {"n": 8, "steps": 4},
}
# fmt: on
