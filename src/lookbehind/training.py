"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True)
class Epoch:
    """What one epoch was like."""

    loss: float  # mean over steps, each at the weights before the step
    lr: float
    gradients: int  # gradient evaluations since the beginning
    seconds: float  # since the beginning


@dataclass
class History:
    """What a training run was like; ``diverged`` if it ended with a loss that is not finite."""

    epochs: list[Epoch] = field(default_factory=list)
    diverged: bool = False

    @property
    def gradients(self) -> int:
        """Gradient evaluations of the whole run."""
        return self.epochs[-1].gradients if self.epochs else 0

    @property
    def seconds(self) -> float:
        """Seconds of the whole run."""
        return self.epochs[-1].seconds if self.epochs else 0.0


def train(
    model: nn.Module,
    optimizer: Optimizer,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch: int = 64,
    seed: int = 0,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
    scheduler: LRScheduler | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Train a model on tensors in memory with any optimizer, through a closure.

    The model holds the slow weights at the end, for every optimizer. A run whose loss is no longer finite at the end of
    an epoch stops there and is marked as diverged.

    Args:
        model: the model, on the device of the data.
        optimizer: any optimizer of torch or of this package.
        images: inputs, shape (n, ...).
        labels: targets, shape (n, ...).
        epochs: passes over the data, each in a new order.
        batch: images a step; the last of an epoch may have fewer. Default 64.
        seed: decides the order of the data. Default 0.
        loss: a function of (outputs, targets). Default cross-entropy.
        scheduler: stepped once an epoch. Default none.
        on_epoch: called with each finished ``Epoch``.

    Returns:
        The ``History``, with gradient evaluations counted where they happen.

    Example:
        >>> import torch
        >>> from lookbehind import SAM
        >>> model = torch.nn.Linear(2, 2)
        >>> optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
        >>> train(model, optimizer, torch.randn(8, 2), torch.tensor([0, 1] * 4), epochs=3, batch=4).gradients
        12

    """
    order = torch.Generator().manual_seed(seed)
    history = History()
    gradients, start = 0, time.perf_counter()
    model.train()
    for _ in range(epochs):
        losses = []
        for index in torch.randperm(len(images), generator=order).to(images.device).split(batch):
            inputs, targets = images[index], labels[index]

            def closure() -> Tensor:
                nonlocal gradients
                gradients += 1
                optimizer.zero_grad()
                value = loss(model(inputs), targets)  # noqa: B023 -- called within this pass of the loop
                value.backward()
                return value

            losses.append(_step(optimizer, closure))
        lr = optimizer.param_groups[0]["lr"]
        if scheduler is not None:
            scheduler.step()
        mean = torch.stack(losses).mean().item()
        history.epochs.append(Epoch(mean, float(lr), gradients, time.perf_counter() - start))
        if on_epoch is not None:
            on_epoch(history.epochs[-1])
        if not math.isfinite(mean):
            history.diverged = True
            break
    _end_on_slow_weights(optimizer)
    return history


def _step(optimizer: Optimizer, closure: Callable[[], Tensor]) -> Tensor:
    value: Any = optimizer.step(closure)  # type: ignore[arg-type]
    return torch.as_tensor(value).detach()


@torch.no_grad()
def _end_on_slow_weights(optimizer: Optimizer) -> None:
    """Leave a Lookahead's slow weights in the model; other optimizers leave there what is to be evaluated."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    with getattr(optimizer, "slow_weights", nullcontext)():
        slow = [p.detach().clone() for p in parameters]
    for p, value in zip(parameters, slow, strict=True):
        p.copy_(value)
