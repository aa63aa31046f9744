"""Do short trainings from one trunk rank the orders as trainings from scratch do?

    python -m sweeps.launch specialisation seeds=[0,1,2]
    python -m sweeps.launch specialisation seeds=[0,1,2] data=digits
    python -m sweeps.launch specialisation preset=imagenet256 data=shards:PATH

One `independent` network, the trunk, is trained on for each order, for 5, 10, 20 and 40 % of the steps that the same
order takes from scratch. Asked beforehand: at 20 %, Kendall's τ between the scores of the short trainings and of those
from scratch is at least 0.7, and the order that the short trainings pick is no worse from scratch than the best one by
more than the spread over seeds. Two controls: with a small image as latent, where order hardly matters, the short
trainings must say so; and the trunk, trained on as it was and sampled along the same paths, says what more steps give.
"""

from collections.abc import Iterator
from typing import Any

from sweeps.cells import Cell, Launch
from sweeps.presets import MODELS
from sweeps.questions.order_ablation import LATENTS
from sweeps.specialise import specialised, trunk_of

SHARES = (0.05, 0.1, 0.2, 0.4)  # of the steps from scratch
ASKED = 0.2  # the share that the question is about
ORDERS: dict[str, dict[str, Any]] = {
    "cascaded": {"name": "cascaded"},
    "shifted 9": {"name": "shifted", "alpha": 9},
    "offset 0.5": {"name": "offset", "offset": 0.5},
    "offset 0.1": {"name": "offset", "offset": 0.1},
    "together": {"name": "shifted", "alpha": 1},
    "pixels lead": {"name": "shifted", "alpha": 1 / 9},
}


def cells(launch: Launch) -> Iterator[Cell]:
    """All cells, each training after the shorter one that it continues."""
    control, latent = LATENTS[launch.preset][0], LATENTS[launch.preset][-1]
    for seed in launch.seeds:
        yield from _specialised(launch, latent, seed, SHARES)
        yield from _specialised(launch, control, seed, (ASKED,))
        for order, training in _orders(launch, latent, seed).items():
            yield Cell(_labels(training, order, "from scratch", 1.0), training, launch.evaluate())


def _orders(launch: Launch, latent: dict[str, Any], seed: int) -> dict[str, Any]:
    """Every order's training from scratch. The latent's times have the same distribution in all."""
    usual = launch.train(MODELS[launch.preset]["lf"], seed=seed).schedule.model_dump(include={"D_mean", "D_std"})
    return {
        order: launch.train(latents=[latent], seed=seed, schedule=schedule | usual)
        for order, schedule in ORDERS.items()
    }


def _specialised(launch: Launch, latent: dict[str, Any], seed: int, shares: tuple[float, ...]) -> Iterator[Cell]:
    """The specialised networks of a latent; and the trunk, trained on for as many steps, along their paths."""
    orders = _orders(launch, latent, seed)
    trunk = trunk_of(orders["cascaded"], launch)
    on, before = trunk, dict.fromkeys([*orders, "on"], trunk)
    for share in shares:
        on = specialised(trunk, trunk, max(1, round(share * trunk.steps)))
        for order, training in orders.items():
            short = specialised(training, trunk, max(1, round(share * training.steps)))
            yield Cell(_labels(training, order, "specialised", share), short, launch.evaluate(), before[order])
            path = training.schedule.model_dump(exclude_defaults=True) | {"name": training.schedule.name}
            labels = _labels(training, order, "trunk trained on", share)
            yield Cell(labels, on, launch.evaluate(path=path), before["on"])
            before[order] = short
        before["on"] = on


def _labels(training: Any, order: str, trained: str, share: float) -> dict[str, Any]:
    latent = training.latents[0].name
    return {"latent": latent, "order": order, "training": trained, "share": share, "seed": training.seed}
