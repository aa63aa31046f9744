"""Training of small networks on data in memory: the judge and the encoder `tiny`."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lf.core.stages import stage


def fit(
    what: str,
    net: nn.Module,
    loss: Callable[[Tensor, torch.Generator], Tensor],
    *,
    n: int,
    batch: int,
    steps: int,
    lr: float,
    seed: int,
) -> dict[str, Tensor]:
    """Minimises ``loss`` by AdamW with a one-cycle learning rate; the same seed gives the same weights on a CPU.

    Args:
        what: what is done, for the bar: ``trains the judge``.
        net: the network, trained in place.
        loss: rows of a batch ``(batch,)`` and the random generator → a scalar.
        n: number of rows; batches are drawn with replacement.
        batch: rows per step.
        steps: number of steps.
        lr: the highest learning rate.
        seed: seed of all random draws.

    Returns:
        The network's state dict.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    net.train()
    with stage(what, steps) as bar:
        for _ in range(steps):
            value = loss(torch.randint(n, (batch,), generator=generator), generator)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            bar.update()
    return net.state_dict()
