"""Presets: aligned literals. ``toy``-sized numbers are on the embedded data; the paper's are arXiv 2602.11401."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # 32 px, 16 tokens; results in results/order_ablation/
    "shapes": {
        "training": {
            "data": "shapes", "resolution": 32,
            "network": {"depth": 4, "width": 128, "heads": 4, "bottleneck": 64, "patch": 8, "class_tokens": 0},
            "schedule": {"name": "pixel_only"},
            "steps": 4000, "batch": 64, "lr": 2e-3, "warmup": 200, "ema": 0.998,
        },
        # t_clip: below every step of every path, so that no path is left noisier than another
        "evaluation": {"steps": 20, "n": 1000, "t_clip": 1e-3},
    },
    # LF ablations: ViT-L size, 80 epochs of batch 1024, FID-10K; JiT recipe lr 5e-5 · batch / 256
    "imagenet256": {
        "training": {
            "data": "", "resolution": 256,
            "network": {"depth": 20, "width": 1024, "heads": 16, "bottleneck": 128, "patch": 16, "class_token_block": 8,
                        "expert_width": 1024},
            "schedule": {"name": "pixel_only"},
            "steps": 100_000, "batch": 1024, "lr": 2e-4, "warmup": 6_255, "ema": 0.9999,
        },
        "evaluation": {"steps": 50, "n": 10_000, "dtype": "bfloat16"},
    },
}  # fmt: skip
