"""Accuracies after an epoch, for the trainers of classifiers."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from torch import nn
from torch.optim import Optimizer

from lookbehind.measure.noise import accuracy


def accuracy_of(model: nn.Module, optimizer: Optimizer, part: Any, batch: int) -> float | None:
    """Return a model's accuracy on a part of the data, at the slow weights if there are any; None for an empty part."""
    if not len(part):
        return None
    with getattr(optimizer, "slow_weights", nullcontext)():
        return accuracy(model, part.minibatches(batch))


def scores_of(model: nn.Module, optimizer: Optimizer, parts: Any, batch: int) -> dict[str, float | None]:
    """Return a record's scores: the accuracies on validation and test examples."""
    named = {"validation": parts.validation, "test": parts.test}
    return {name: accuracy_of(model, optimizer, part, batch) for name, part in named.items()}
