"""A measurement may do with a model what it likes, and leaves it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put weights, buffers, modes, momenta, ``requires_grad`` and gradients back, also if something raises."""
    tensors = [*model.parameters(), *model.buffers()]
    kept = [t.detach().clone() for t in tensors]
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    # update_bn clears the momentum of batch norms and does not put it back when a forward pass raises.
    momenta = [(module, module.momentum) for module in model.modules() if isinstance(module, _BatchNorm)]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)
        for module, training in modes:
            module.training = training
        for batch_norm, momentum in momenta:
            batch_norm.momentum = momentum
        for p, requires_grad, gradient in gradients:
            p.requires_grad_(requires_grad)
            p.grad = gradient
