"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils._pytree import tree_leaves, tree_map_only

from lookbehind._checks import repeatable
from lookbehind._minibatch import Loss, call, logits_of, loss_of, pairs
from lookbehind._tensors import norms, total_norm
from lookbehind.optim import FractionSAM


@dataclass(frozen=True)
class Epoch:
    """Record of one epoch. Means are over steps, each at the unperturbed weights before the step."""

    loss: float
    accuracy: float | None  # of the training images, in percent; None if the targets are no class numbers
    gradient_norm: float  # mean of ‖∇L‖₂ over all parameters
    alpha: float | None  # mean of α* over steps (and tensors); None if α is not adaptive
    lr: float
    gradients: float  # gradients of a minibatch since the beginning; that of a part counts as its share
    seconds: float  # of training since the beginning


@dataclass
class History:
    """Record of a training run; ``diverged`` if it ended with a loss or a weight that is not finite."""

    epochs: list[Epoch] = field(default_factory=list)
    diverged: bool = False

    @property
    def gradients(self) -> float:
        """Gradients of a minibatch in the whole run; that of a part counts as its share."""
        return self.epochs[-1].gradients if self.epochs else 0

    @property
    def seconds(self) -> float:
        """Seconds of the whole run."""
        return self.epochs[-1].seconds if self.epochs else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become the record that was saved."""
        vars(self).update(state, epochs=[Epoch(**epoch) for epoch in state["epochs"]])


def fit(
    model: nn.Module,
    optimizer: Optimizer,
    minibatches: Iterable[Any],
    *,
    epochs: int,
    loss: Loss | None = nn.functional.cross_entropy,
    scheduler: LRScheduler | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    history: History | None = None,
    minibatches_per_step: int = 1,
) -> History:
    """Train a model with any optimizer, through a closure, one pass over the minibatches an epoch.

    The model holds the slow weights at the end, for every optimizer. A run whose loss or weights are no longer finite
    at the end of an epoch stops there and is marked as diverged; steps that ``nonfinite="skip"`` has skipped do not
    count. No step waits for the device. With a model that is
    ``DistributedDataParallel``, losses and accuracies are means over its processes.

    To go on after an interruption, load the states of model, optimizer, scheduler and minibatches, and pass the
    ``history`` of the epochs that are done.

    Args:
        model: the model, on the device of the minibatches.
        optimizer: any optimizer of torch or of this package.
        minibatches: pairs (inputs, targets), or dicts that the model takes by keywords, that can be gone through once
            an epoch: a ``Shuffled``, a loader, a list.
        epochs: number of epochs, those in ``history`` among them.
        loss: a function of (outputs, targets). None: the model's own, its outputs' ``loss``. Default cross-entropy.
        scheduler: stepped once an epoch. Default none.
        on_epoch: called with each finished ``Epoch``, after the scheduler's step.
        history: what was before. It grows, and is returned. Default: nothing was.
        minibatches_per_step: with more than 1, each step gets a list of so many closures: minibatch switching, for a
            ``Lookbehind`` or ``S2SAM`` of as many inner steps, or the micro-batches of an ``AccumulatingSAM``. Fewer
            that are left at the end of an epoch are left out. Default 1. A ``FractionSAM`` gets the first part of each
            minibatch, and the whole or the rest of it.

    Returns:
        The ``History``, with gradient evaluations counted where they happen.

    Raises:
        ValueError: if there is no minibatch, one is no pair, or they can be gone through only once; if a
            ``FractionSAM`` is to take several minibatches a step.

    Example:
        >>> import torch
        >>> from lookbehind import SAM
        >>> model = torch.nn.Linear(2, 2)
        >>> optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
        >>> minibatches = [(torch.randn(4, 2), torch.tensor([0, 1, 0, 1])) for _ in range(2)]
        >>> history = fit(model, optimizer, minibatches, epochs=2)
        >>> fit(model, optimizer, minibatches, epochs=3, history=history).gradients
        12

    """
    repeatable("minibatches", minibatches)
    if minibatches_per_step > 1 and _fraction_of(optimizer):
        raise ValueError(
            f"minibatches_per_step is {minibatches_per_step}; FractionSAM cuts one minibatch a step, so 1 is needed"
        )
    history = History() if history is None else history
    while len(history.epochs) < epochs and not history.diverged:
        start = time.perf_counter()
        model.train()
        steps = _Steps(model, optimizer, loss, history.gradients)
        together: list[tuple[Any, Any]] = []
        for minibatch in pairs(minibatches):
            together.append(minibatch)
            if len(together) == minibatches_per_step:
                steps.take(together)
                together = []
        lr = optimizer.param_groups[0]["lr"]
        if scheduler is not None:
            scheduler.step()
        epoch = steps.summary(lr=float(lr), before=history.seconds, start=start)
        history.epochs.append(epoch)
        history.diverged = not (math.isfinite(epoch.loss) and _finite(model))
        if on_epoch is not None:
            on_epoch(epoch)
    if hasattr(optimizer, "slow_weights"):  # the next step, of another call perhaps, goes on with the fast weights
        optimizer.slow_weights().__enter__()
    return history


def train(
    model: nn.Module,
    optimizer: Optimizer,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch: int = 64,
    seed: int = 0,
    loss: Loss = nn.functional.cross_entropy,
    scheduler: LRScheduler | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Train a model on tensors in memory: ``fit`` with minibatches in a new order each epoch.

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
    minibatches = _Reordered(images, labels, batch, torch.Generator().manual_seed(seed))
    return fit(model, optimizer, minibatches, epochs=epochs, loss=loss, scheduler=scheduler, on_epoch=on_epoch)


@dataclass
class _Reordered:
    """Tensors as minibatches, in a new order at each pass."""

    images: Tensor
    labels: Tensor
    batch: int
    generator: torch.Generator

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.images), generator=self.generator).to(self.images.device)
        for index in order.split(self.batch):
            yield self.images[index], self.labels[index]


class _Steps:
    """The steps of an epoch, and what they were like: tensors, left where they are until the epoch's end."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, loss: Loss | None, gradients: float) -> None:
        self.model, self.optimizer, self.loss, self.gradients = model, optimizer, loss, gradients
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.skipped = 0
        self.losses: list[Tensor] = []
        self.norms: list[list[Tensor]] = []  # of each step's gradients
        self.alphas: list[Tensor] = []
        self.predicted: list[Tensor] = []  # class numbers
        self.targets: list[Tensor] = []

    def take(self, minibatches: Sequence[tuple[Any, Any]]) -> None:
        """Take one step, whose first gradient is the one at the unperturbed weights."""
        before = self.gradients

        seen = len(self.norms), len(self.predicted)

        def evaluate(inputs: Any, targets: Any, share: float = 1) -> Tensor:
            self.optimizer.zero_grad()
            outputs = call(self.model, inputs)
            value = loss_of(self.model, self.loss, outputs, targets)
            value.backward()
            if self.gradients == before:
                self._look(outputs, targets)
            self.gradients += share
            return value

        closures = [partial(evaluate, *minibatch) for minibatch in minibatches]
        if fraction := _fraction_of(self.optimizer):
            closures = [partial(evaluate, *part) for part in _parts(fraction, *minibatches[0])]
        value: Any = self.optimizer.step(closures if len(closures) > 1 else closures[0])  # type: ignore[arg-type]
        if getattr(self.optimizer, "last_step_skipped", False):
            self.skipped += 1
            del self.norms[seen[0] :], self.predicted[seen[1] :], self.targets[seen[1] :]
            return
        self.losses.append(torch.as_tensor(value).detach())
        alpha = getattr(self.optimizer, "alpha_star", None)
        if alpha is not None:
            self.alphas.append(alpha.mean())

    def _look(self, outputs: Any, targets: Any) -> None:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        self.norms.append(norms(gradients) if gradients else [torch.zeros(())])
        if not isinstance(targets, Tensor) or targets.ndim != 1 or targets.is_floating_point():
            return
        logits = logits_of(outputs).detach()
        if logits.ndim == 2 and logits.shape[1] > 1:
            self.predicted.append(logits.argmax(1))
            self.targets.append(targets)

    def summary(self, *, lr: float, before: float, start: float) -> Epoch:
        """Wait for the device, and return what the epoch was like."""
        if not (self.losses or self.skipped):
            raise ValueError("minibatches is empty, or has fewer than a step takes")
        accuracy = None
        if self.targets:
            targets = torch.cat(self.targets)
            accuracy = 100.0 * int((torch.cat(self.predicted) == targets).sum()) / len(targets)
        return Epoch(
            loss=self._over_processes(_mean(self.losses)),
            accuracy=None if accuracy is None else self._over_processes(accuracy),
            gradient_norm=_mean([total_norm(each) for each in self.norms]),
            alpha=_mean(self.alphas) if self.alphas else None,
            lr=lr,
            gradients=self.gradients,
            seconds=before + time.perf_counter() - start,
        )

    def _over_processes(self, value: float) -> float:
        """Return the mean over the processes that train together, of which there may be one."""
        if not isinstance(self.model, DistributedDataParallel):
            return value
        mean = torch.tensor(value, device=self.parameters[0].device)
        torch.distributed.all_reduce(mean, group=self.model.process_group)
        return mean.item() / torch.distributed.get_world_size(self.model.process_group)


def _fraction_of(optimizer: Optimizer) -> FractionSAM | None:
    """Return the ``FractionSAM`` that is asked for its parts: the optimizer, or one inside it."""
    inside: Any = optimizer
    while inside is not None and not isinstance(inside, FractionSAM):
        inside = getattr(inside, "base", None)
    return inside


def _parts(optimizer: FractionSAM, inputs: Any, targets: Any) -> list[tuple[Any, Any, float]]:
    """Return the first part of a minibatch, and the whole or the rest of it, each with its share of the examples."""
    number = next(t for t in tree_leaves((targets, inputs)) if isinstance(t, Tensor)).shape[0]
    first = min(max(1, round(optimizer.fraction * number)), number - 1)
    if first < 1:
        raise ValueError(f"a minibatch of {number} has no part; FractionSAM needs at least 2 examples")

    def rows(start: int, end: int) -> tuple[Any, Any, float]:
        part = tree_map_only(Tensor, lambda t: t[start:end] if t.ndim else t, (inputs, targets))
        return (*part, (end - start) / number)

    optimizer.share = first / number
    return [rows(0, first), rows(0 if optimizer.descend == "whole" else first, number)]


def _mean(values: list[Tensor]) -> float:
    return torch.stack(values).mean().item() if values else math.nan


def _finite(model: nn.Module) -> bool:
    """Return whether all weights are finite. The last step of an epoch can ruin them without a trace in its losses."""
    return all(bool(p.isfinite().all()) for p in model.parameters())
