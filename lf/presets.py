"""Presets: aligned literals. ``toy``-sized numbers are on the embedded data; the paper's are arXiv 2602.11401.

Another size is ``network.size=B`` (S, B, LM, L, H); 512 px is ``resolution=512 network.patch=32 noise_scale=2``;
unconditional is ``label_dropout=1``.
"""

from typing import Any

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

# What a question calls JiT, JiT+REPA and LF, as changes to its preset's training; how each is guided, by its streams.
# JiT's own guidance is its public code's. AutoGuidance is for who has a weaker network, such as preset `lf_s_guide`'s.
MODELS: dict[str, dict[str, Any]] = {
    "shapes": {
        "jit": {},
        "repa": {"repa": {"name": "tiny"}, "network": {"repa_block": 2, "repa_width": 8}},
        # D_mean -1.2 suits 768 channels, whose noise averages out; 8 channels are told apart later
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
# Of a preset's steps, what an ablation's training takes. `order_ablation` takes all: its one model learns every order.
ABLATION = {"shapes": 0.5, "imagenet256": 1.0}
SMOKE: dict[str, dict[str, Any]] = {  # instead of a preset's: whether it runs at all
    "training": {"steps": 6, "batch": 8, "warmup": 0, "network": {"width": 32, "heads": 2}},
    "evaluation": {"n": 8, "steps": 4},
}

PRESETS: dict[str, dict[str, Any]] = {
    # 32 px, 16 tokens; results in results/order_ablation/
    "shapes": {
        "training": {
            "data": "shapes", "resolution": 32,
            "network": {"depth": 4, "width": 128, "heads": 4, "bottleneck": 64, "patch": 8, "class_tokens": 0},
            "schedule": {"name": "pixel_only"},
            "steps": 4000, "batch": 64, "lr": 2e-3, "warmup": 200, "ema": [0.998],
        },
        # t_clip: below every step of every path, so that no path is left noisier than another
        "evaluation": {"steps": 20, "n": 1000, "t_clip": 1e-3, "solver": "heun_per_stream", "features": ["judge"],
                       "dtype": "bfloat16"},
    },
    # What the sweeps build on: LF's ablations, 80 epochs, FID-10K
    "imagenet256": {
        "training": {**IMAGENET, "steps": 100_080, "schedule": {"name": "pixel_only"},
                     "network": {"size": "LM", "expert_width": 1024}},
        "evaluation": {**PAPER, "n": 10_000},
    },
    # The paper's systems; beside them FID-50K published, unguided and guided (results/paper/table09, table11)
    "jit_l_imagenet256":      {"training": {**IMAGENET, **JIT,   "steps": 100_080}, "evaluation": PAPER},  # 25.18, 5.64
    "jit_repa_l_imagenet256": {"training": {**IMAGENET, **REPA,  "steps": 100_080}, "evaluation": PAPER},  # 18.60, 4.57
    "lf_l_imagenet256":       {"training": {**IMAGENET, **LF,    "steps": 100_080},
                               "evaluation": {**PAPER, **AUTO}},                                           #  9.76, 4.18
    "jit_l_200":              {"training": {**IMAGENET, **JIT,   "steps": 250_200}, "evaluation": PAPER},  # 16.21, 2.79
    "lf_l_200":               {"training": {**IMAGENET, **LF,    "steps": 250_200},
                               "evaluation": {**PAPER, **SYSTEM}},                                         #  7.20, 2.48
    "lf_s_guide":             {"training": {**IMAGENET, **GUIDE, "steps":  50_040}, "evaluation": PAPER},  # 40 epochs
}  # fmt: skip
