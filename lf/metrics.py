"""Scores of generated images, through torch-fidelity's registry, from memory.

The toy data sets are scored with a judge: a small network trained on the data set itself. Its Fréchet distance is
called ``FD-<data>`` and is never a FID.
"""

import hashlib
import os
from pathlib import Path

import torch
import torch_fidelity
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch_fidelity import FeatureExtractorBase

from lf.data.base import Images, to_float

JUDGE = "lf-judge"
JUDGE_STEPS, JUDGE_BATCH, JUDGE_LR, JUDGE_SEED = 800, 128, 3e-3, 1234
JUDGE_WIDTH, JUDGE_VERSION = 32, 1


class JudgeNet(nn.Module):
    """Convolutions with batch norm, mean-pooled over each half: 2 × 64 features, and a linear reading of each fact."""

    def __init__(self, facts: dict[str, int]):
        super().__init__()
        self.facts = dict(facts)
        layers: list[nn.Module] = []
        for width_in, width, stride in ((3, 1, 2), (1, 2, 1), (2, 2, 2), (2, 4, 1), (4, 4, 2), (4, 2, 1)):
            width_in = width_in if width_in == 3 and not layers else width_in * JUDGE_WIDTH
            layers += [nn.Conv2d(width_in, width * JUDGE_WIDTH, 3, stride, 1, bias=False), nn.BatchNorm2d(width * JUDGE_WIDTH), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.read = nn.Linear(4 * JUDGE_WIDTH, sum(facts.values()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = F.adaptive_avg_pool2d(self.body(x), (1, 2)).flatten(1)
        return features, self.read(features)

    def logits(self, read: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.facts, read.split(list(self.facts.values()), 1), strict=True))


def fit_judge(data, cache: Path):
    facts = {"class": data.labels, **data.facts}
    sizes = {k: int(v.max()) + 1 for k, v in facts.items()}
    net = JudgeNet(sizes)
    generator = torch.Generator().manual_seed(JUDGE_SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(JUDGE_SEED)
        net = JudgeNet(sizes)
    opt = torch.optim.AdamW(net.parameters(), lr=JUDGE_LR)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, JUDGE_LR, total_steps=JUDGE_STEPS)
    net.train().to(memory_format=torch.channels_last)
    for _ in range(JUDGE_STEPS):
        i = torch.randint(len(data), (JUDGE_BATCH,), generator=generator)
        logits = net.logits(net(to_float(data.images[i]).to(memory_format=torch.channels_last))[1])
        loss = sum(F.cross_entropy(logits[k], v[i]) for k, v in facts.items())
        opt.zero_grad(); loss.backward(); opt.step(); sched.step()
    return net.eval()
