"""Low-rank adapters (LoRA; Hu et al., 2022) for any model with linear layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LowRank(nn.Module):
    r"""A frozen linear layer and a trained matrix of low rank beside it.

    .. math::
        y = W x + b + \frac{s}{r} B A x, \qquad A \in R^{r \times n}, \; B \in R^{m \times r}

    (eq. 3 of Hu et al., 2022). B begins at zero, so that the model begins as it was.

    Args:
        linear: the layer. Its parameters are frozen.
        rank: r, at most the layer's inputs and outputs. Default 8.
        scale: s. Default 16.

    Raises:
        ValueError: if the rank is out of range.

    Example:
        >>> layer = LowRank(nn.Linear(4, 3), rank=2)
        >>> [name for name, p in layer.named_parameters() if p.requires_grad]
        ['down', 'up']

    """

    def __init__(self, linear: nn.Linear, rank: int = 8, scale: float = 16.0) -> None:
        super().__init__()
        most = min(linear.in_features, linear.out_features)
        if not 1 <= rank <= most:
            raise ValueError(f"rank is {rank}; a whole number from 1 to {most} is needed")
        self.linear = linear.requires_grad_(False)
        self.scale = scale / rank
        self.down = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))  # A
        self.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))  # B
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return tensors of shape (..., m) for (..., n)."""
        y: Tensor = self.linear(x) + self.scale * (x @ self.down.T @ self.up.T)
        return y

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return one linear layer that does the same."""
        self.linear.weight += self.scale * (self.up @ self.down)
        return self.linear.requires_grad_(True)


def add_adapters(
    model: nn.Module, layers: Sequence[str] = ("query", "value"), *, rank: int = 8, scale: float = 16.0
) -> list[nn.Parameter]:
    """Freeze a model and put adapters beside some of its linear layers.

    A new head that shall be trained in full must be unfrozen afterwards, or is added later.

    Args:
        model: the model, changed in place.
        layers: the last part of the layers' names: ``("query", "value")`` for BERT, as in the paper; ``("qkv",)`` for
            ``VisionTransformer``, whose one map gives all three.
        rank: r. Default 8.
        scale: s. Default 16.

    Returns:
        The adapters' parameters.

    Raises:
        ValueError: if no linear layer has such a name, or the rank is out of range.

    Example:
        >>> from lookbehind.models import build
        >>> model = build("vit-tiny")
        >>> sum(p.numel() for p in add_adapters(model, ["qkv"], rank=4))
        4096

    """
    found = [
        (parent, child, linear)
        for parent in model.modules()
        for child, linear in parent.named_children()
        if child in layers and isinstance(linear, nn.Linear)
    ]
    if not found:
        raise ValueError(f"layers is {tuple(layers)}; no linear layer of {type(model).__name__} has such a name")
    model.requires_grad_(False)
    added = []
    for parent, child, linear in found:
        adapter = LowRank(linear, rank, scale)
        setattr(parent, child, adapter)
        added += [adapter.down, adapter.up]
    return added


def merge_adapters(model: nn.Module) -> nn.Module:
    """Fold all adapters into their linear layers, in place, for use without this package."""
    for parent in list(model.modules()):
        for child, adapter in list(parent.named_children()):
            if isinstance(adapter, LowRank):
                setattr(parent, child, adapter.merged())
    return model
