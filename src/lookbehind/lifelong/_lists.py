"""Differentiable arithmetic on lists of weights, one foreach call each, and a net as a function of such a list."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lookbehind._tensors import norm, unit

Weights = Sequence[Tensor]


class Net:
    """A model as a function of its weights."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not trained:
            raise ValueError("the model has no parameter that requires a gradient; there is nothing to learn")
        self.names: list[str] = list(trained)
        self.weights: list[Tensor] = list(trained.values())

    def __call__(self, weights: Weights, images: Tensor) -> Tensor:
        """Return the logits of the model with other weights."""
        logits: Tensor = functional_call(self.model, dict(zip(self.names, weights, strict=True)), (images,))
        return logits


def grad(loss: Tensor, weights: Weights, *, create_graph: bool = False, retain_graph: bool = False) -> list[Tensor]:
    """Return ∂loss/∂weights; zeros for weights that the loss does not depend on."""
    keep = create_graph or retain_graph
    return list(
        torch.autograd.grad(loss, weights, retain_graph=keep, create_graph=create_graph, materialize_grads=True)
    )


def moved(weights: Weights, directions: Weights, factor: float) -> list[Tensor]:
    """Return weights + factor · directions."""
    return list(torch._foreach_add(list(weights), list(directions), alpha=factor))


def interpolated(weights: Weights, ends: Weights, alpha: float) -> list[Tensor]:
    """Return weights + α (ends − weights)."""
    return list(torch._foreach_lerp(list(weights), list(ends), alpha))


def clamped(gradients: list[Tensor], bound: float | None) -> list[Tensor]:
    """Return gradients with each entry in [−bound, bound]; as they are if there is no bound."""
    if bound is None:
        return gradients
    return [g.clamp(-bound, bound) for g in gradients]  # foreach has no clamp, only its halves: two passes each way


def clipped(gradients: list[Tensor], bound: float | None) -> list[Tensor]:
    """Return gradients whose norm over all weights is at most the bound (to 1e-6, as torch's clipping)."""
    if bound is None:
        return gradients
    factor = (bound / (norm(gradients) + 1e-6)).clamp(max=1.0)
    return list(torch._foreach_mul(gradients, factor))


def climb(gradients: list[Tensor]) -> list[Tensor]:
    """Return g / ‖g‖₂, ε of eq. 3 for ρ = 1; zero where the gradient is. A constant, since g has no graph."""
    return unit(gradients, norm(gradients))


@torch.no_grad()
def descend_(weights: list[Tensor], gradients: list[Tensor], lr: float) -> None:
    """φ ← φ − η g, in place."""
    torch._foreach_add_(weights, gradients, alpha=-lr)
