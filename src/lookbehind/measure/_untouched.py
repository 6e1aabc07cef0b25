"""A measurement may do with a model what it likes, and leaves it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put weights, buffers, modes, ``requires_grad`` and gradients back afterwards, also if something raises."""
    tensors = [*model.parameters(), *model.buffers()]
    kept = [t.detach().clone() for t in tensors]
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)
        for module, training in modes:
            module.training = training
        for p, requires_grad, gradient in gradients:
            p.requires_grad_(requires_grad)
            p.grad = gradient
