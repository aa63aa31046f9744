"""The judge: a network with its own architecture and seed, trained on a small data set to score images of it."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from lf.data.base import Images, to_float
from lf.metrics.measures import scores
from lf.metrics.reference import Reference
from lf.metrics.space import Space
from lf.network.fit import fit
from lf.storage.cache import made_once, read_cached

JUDGE = "judge"
RECIPE: dict[str, Any] = {"version": 1, "width": 24, "steps": 800, "batch": 128, "lr": 3e-3, "seed": 1234}


class JudgeNet(nn.Module):
    """Strided convolutions with batch norm; mean over each half of the image; a linear classifier per fact.

    Args:
        facts: name of each fact → number of its values; ``class`` is always among them.
    """

    def __init__(self, facts: dict[str, int], width: int = RECIPE["width"]):
        super().__init__()
        self.facts = facts
        plan = [(3, 1, 2), (1, 2, 1), (2, 2, 2), (2, 4, 1), (4, 4, 2), (4, 2, 1)]  # in, out (× width), stride
        layers: list[nn.Module] = []
        for row, (fan_in, fan_out, stride) in enumerate(plan):
            fan_in = fan_in * width if row else 3
            layers += [
                nn.Conv2d(fan_in, fan_out * width, 3, stride, 1, bias=False),
                nn.BatchNorm2d(fan_out * width),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.read = nn.Linear(4 * width, sum(facts.values()))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images → features ``(B, 4·width)`` (left half, right half) and the logits of all facts."""
        x = to_float(images).contiguous(memory_format=torch.channels_last)
        halves = F.adaptive_avg_pool2d(self.body(x), (1, 2))
        features = halves.transpose(1, 3).flatten(1)
        return features, self.read(features)

    def facts_of(self, logits: Tensor) -> dict[str, Tensor]:
        """Logits of each fact by name."""
        return dict(zip(self.facts, logits.split(list(self.facts.values()), 1), strict=True))


class Judge(Space):
    """The judge's feature space, in which only the Fréchet distance is computed.

    Args:
        reference: the training images, the reference of the Fréchet distance.
        lessons: the images that the judge is trained on, with all facts that it learns.
        cache: folder for its weights and the reference's statistics.

    Attributes:
        digest: identity of its recipe and data.
        weights: hash of its weights. Machines may round differently in training; the weights for ``shapes`` at 32 px
            come with the code (`lf.storage.cache.SHIPPED`).
    """

    name = JUDGE
    measures = ("fd",)

    def __init__(self, reference: Images, lessons: Images, cache: Path):
        self.reference, self.cache = reference, cache
        self.digest = hashlib.sha256(f"{RECIPE} {lessons.digest} {reference.digest}".encode()).hexdigest()[:16]
        self.file = cache / f"judge-{self.digest}.safetensors"
        made_once(self.file, lambda: _fitted(lessons))
        self.net = judge_from(self.file)
        self.weights = hashlib.sha256(save(read_cached(self.file))).hexdigest()[:16]

    @cached_property
    def statistics(self) -> Reference:
        """The reference's statistics in the judge's features."""
        return Reference.of(self.reference, self, self.cache, keep=0)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            parts = [self.net(part.cpu()) for part in images.split(500)]
        return {"features": torch.cat([f for f, _ in parts]), "logits": torch.cat([logits for _, logits in parts])}

    def column(self, score: str) -> str:
        return score

    def score(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Scores of uint8 images ``(N, 3, H, W)``, generated with ``labels`` ``(N,)``: see `scored`."""
        return self.scored(self.features(images), labels)

    def scored(self, generated: dict[str, Tensor], labels: Tensor) -> dict[str, float]:
        """Scores from the features of all images.

        Returns:
            ``fd``: Fréchet distance to the reference in the judge's features, ≥ 0; and the scores of `reading`.
        """
        return scores(self, generated, self.statistics) | self.reading(generated["logits"], labels)

    def reading(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """What the judge classifies in images that were generated with ``labels`` ``(N,)``.

        Returns:
            ``class_accuracy``: share of images that the judge assigns to their label. ``agreement`` (only for data with
            two objects): share whose left and right objects agree in all facts, and ``agreement_<kind>`` in one fact.
        """
        seen = {name: value.argmax(1) for name, value in self.net.facts_of(logits).items()}
        shares = {"class_accuracy": (seen["class"] == labels.cpu()).float().mean().item()}
        kinds = [name.removeprefix("left.") for name in seen if name.startswith("left.")]
        if kinds:
            agree = {kind: seen[f"left.{kind}"] == seen[f"right.{kind}"] for kind in kinds}
            shares["agreement"] = torch.stack([*agree.values()]).all(0).float().mean().item()
            shares |= {f"agreement_{kind}": value.float().mean().item() for kind, value in agree.items()}
        return shares

    def likeness(self, logits: Tensor, given: Tensor) -> dict[str, float]:
        """How much images agree with the pictures that streams were given of; both by their logits.

        Returns:
            ``given_agreement``: share of images in which the judge reads every fact as in the picture.
        """
        pairs = zip(self.net.facts_of(logits).values(), self.net.facts_of(given).values(), strict=True)
        same = torch.stack([a.argmax(1) == b.argmax(1) for a, b in pairs])
        return {"given_agreement": same.all(0).float().mean().item()}


def judge_from(file: Path) -> JudgeNet:
    """Loads a judge's network from ``file``, frozen."""
    tensors = read_cached(file)
    facts = {name.removeprefix("facts."): int(tensors.pop(name)) for name in list(tensors) if name.startswith("facts.")}
    order = sorted(facts, key=lambda name: (name != "class", name))
    net = JudgeNet({name: facts[name] for name in order})
    net.load_state_dict(tensors)
    return net.eval().requires_grad_(False)


def _fitted(lessons: Images) -> dict[str, Tensor]:
    """The weights of a judge trained by cross-entropy on every fact, and the number of values of each fact."""
    truth = {"class": lessons.labels, **{name: lessons.facts[name] for name in sorted(lessons.facts)}}
    sizes = {name: int(value.max()) + 1 for name, value in truth.items()} | {"class": len(lessons.classes)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RECIPE["seed"])
        net = JudgeNet(sizes).to(memory_format=torch.channels_last)

    def loss(some: Tensor, _: torch.Generator) -> Tensor:
        logits = net.facts_of(net(lessons.images[some])[1])
        return torch.stack([F.cross_entropy(logits[name], value[some]) for name, value in truth.items()]).sum()

    recipe = {key: RECIPE[key] for key in ("batch", "steps", "lr", "seed")}
    weights = fit(f"trains the judge on {lessons.name}", net, loss, n=len(lessons), **recipe)
    return weights | {f"facts.{name}": torch.tensor(size) for name, size in sizes.items()}
