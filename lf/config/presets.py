"""Presets: ``shapes`` is a toy on embedded data; the others are those of the paper (LF, arXiv 2602.11401).

Another size is ``network.size=B`` (S, B, LM, L, H); 512 px is ``resolution=512 network.patch=32 noise_scale=2``;
unconditional is ``label_dropout=1``.
"""

from typing import Any

from lf.core.errors import UserError, nearest
from lf.core.parsing import read_yaml

# fmt: off
# JiT's recipe (arXiv 2511.13720): lr 5e-5 · batch / 256, 5 epochs of warm-up; one epoch is 1251 steps.
IMAGENET: dict[str, Any] = {
    "data": "", "resolution": 256, "flip": True,
    "batch": 1024, "lr": 2e-4, "warmup": 6_255, "ema": [0.9999, 0.9998], "label_dropout": 0.1,
    "runtime": {"checkpoint_seconds": 1800, "workers": 8, "limit_damaged": 100},
}
PAPER = {"steps": 50, "n": 50_000, "dtype": "bfloat16", "features": ["inception-v3-compat", "clip-vit-b-32"]}
LATENTS: list[dict[str, Any]] = [{"name": "dinov2"}]
JIT: dict[str, Any]   = {"network": {"size": "L"}, "schedule": {"name": "pixel_only"}}
REPA: dict[str, Any]  = {**JIT, "network": {"size": "L", "repa_block": 8}, "repa": {"name": "dinov2"}}
LF: dict[str, Any]    = {"network": {"size": "LM", "expert_width": 1024}, "schedule": {"name": "cascaded"},
                         "latents": LATENTS}
GUIDE: dict[str, Any] = {**LF, "network": {"size": "S", "expert_width": 1024}}
AUTO = {"guidance": {"kind": "autoguidance", "scale": {"pixels": 1.5, "dinov2": 1.5}, "guide": "lf_s_guide"}}
SYSTEM: dict[str, Any] = {
    "guidance": {"kind": "cfg_then_autoguidance", "guide": "lf_s_guide",
                 "scale": {"pixels": 1.5, "dinov2": 2.9}, "interval": {"dinov2": [0.06, 1.0]}},
    "shift": {"dinov2": 0.575},
}
# fmt: on

PRESETS: dict[str, dict[str, Any]] = {
    # 32 px, 16 tokens; results in results/order_ablation/
    "shapes": {
        "training": {
            "data": "shapes", "resolution": 32,
            "network": {"depth": 4, "width": 128, "heads": 4, "bottleneck": 64, "patch": 8, "class_tokens": 0},
            "schedule": {"name": "pixel_only"},
            "steps": 4000, "batch": 64, "lr": 2e-3, "warmup": 200, "ema": [0.998],
        },
        # t_clip: smaller than the last step of every path, so that no path ends noisier than another
        "evaluation": {"steps": 20, "n": 1000, "t_clip": 1e-3, "solver": "heun_per_stream", "features": ["judge"],
                       "dtype": "bfloat16"},
    },
    # The base of the sweeps: LF's ablations, 80 epochs, FID-10K
    "imagenet256": {
        "training": {**IMAGENET, "steps": 100_080, "schedule": {"name": "pixel_only"},
                     "network": {"size": "LM", "expert_width": 1024}},
        "evaluation": {**PAPER, "n": 10_000},
    },
    # The paper's systems, with their published FID-50K, unguided and guided (results/paper/table09, table11)
    "jit_l_imagenet256":      {"training": {**IMAGENET, **JIT,   "steps": 100_080}, "evaluation": PAPER},  # 25.18, 5.64
    "jit_repa_l_imagenet256": {"training": {**IMAGENET, **REPA,  "steps": 100_080}, "evaluation": PAPER},  # 18.60, 4.57
    "lf_l_imagenet256":       {"training": {**IMAGENET, **LF,    "steps": 100_080},
                               "evaluation": {**PAPER, **AUTO}},                                           #  9.76, 4.18
    "jit_l_200":              {"training": {**IMAGENET, **JIT,   "steps": 250_200}, "evaluation": PAPER},  # 16.21, 2.79
    "lf_l_200":               {"training": {**IMAGENET, **LF,    "steps": 250_200},
                               "evaluation": {**PAPER, **SYSTEM}},                                         #  7.20, 2.48
    "lf_s_guide":             {"training": {**IMAGENET, **GUIDE, "steps":  50_040}, "evaluation": PAPER},  # 40 epochs
}  # fmt: skip


def preset(name: str) -> dict[str, Any]:
    """Values for ``training`` and ``evaluation``, of the preset ``name`` or from a file ``name.yaml``.

    Raises:
        UserError: unknown preset, or a file that cannot be read or holds other keys.
    """
    if name.endswith(".yaml"):
        return _preset_file(name)
    if name not in PRESETS:
        raise UserError(f"preset={name}: unknown; {nearest(name, PRESETS)}; or a file of your own, my_preset.yaml")
    return PRESETS[name]


def _preset_file(name: str) -> dict[str, Any]:
    found = read_yaml(name, "preset")
    sections: dict[str, Any] = {"training": {}, "evaluation": {}}
    for section, values in found.items() if isinstance(found, dict) else [(name, None)]:
        if section not in sections or not isinstance(values, dict):
            raise UserError(f"preset={name}: must hold 'training' and 'evaluation', or one of them, with their keys")
        sections[str(section)] = values
    return sections
