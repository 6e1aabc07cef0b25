"""Low-rank adapters (LoRA; Hu et al., 2022) for any model with linear layers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn


class LowRank(nn.Module):
    r"""A frozen linear layer and a trained matrix of low rank beside it.

    .. math::
        y = W x + b + \frac{s}{r} B A x, \qquad A \in R^{r \times n}, \; B \in R^{m \times r}

    (eq. 3 of Hu et al., 2022). B begins at zero, so that the model begins as it was. ``weight`` is W + s/r B A, for
    modules that read it and do not call the layer, such as ``nn.MultiheadAttention``.

    Args:
        linear: the layer. Its parameters are frozen.
        rank: r, at most the layer's inputs and outputs. Default 8.
        scale: s. Default 16.

    Raises:
        ValueError: if the rank is out of range, or the layer's weight is not a parameter (pruned, parametrised).

    Example:
        >>> layer = LowRank(nn.Linear(4, 3), rank=2)
        >>> [name for name, p in layer.named_parameters() if p.requires_grad]
        ['down', 'up']

    """

    def __init__(self, linear: nn.Linear, rank: int = 8, scale: float = 16.0) -> None:
        super().__init__()
        _check(linear, rank)
        self.linear = linear.requires_grad_(False)
        self.scale = scale / rank
        self.down = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))  # A
        self.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))  # B
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return tensors of shape (..., m) for (..., n)."""
        y: Tensor = self.linear(x) + self.scale * (x @ self.down.T @ self.up.T)
        return y

    @property
    def weight(self) -> Tensor:
        """Return W + s/r B A."""
        return self.linear.weight + self.scale * (self.up @ self.down)

    @property
    def bias(self) -> Tensor | None:
        """Return b."""
        return self.linear.bias

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return a new linear layer that does the same. Its tensors are its own, so tied weights stay as they are."""
        layer = copy.copy(self.linear)
        bias = None if self.bias is None else nn.Parameter(self.bias.clone())
        layer._parameters = {"weight": nn.Parameter(self.weight), "bias": bias}
        vars(layer)[_ADAPTER] = self  # past Module.__setattr__: not part of the state_dict
        return layer


_ADAPTER = "_adapter"  # of a merged layer


def _check(linear: nn.Linear, rank: int) -> None:
    if linear._parameters.get("weight") is None:
        raise ValueError("a layer's weight is pruned, parametrised or quantised; add adapters to a plain linear layer")
    most = min(linear.in_features, linear.out_features)
    if not 1 <= rank <= most:
        raise ValueError(f"rank is {rank}; a whole number from 1 to {most} is needed")


def _children(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield (parent, name, child), also for a child that has several names."""
    for parent in list(model.modules()):
        if not isinstance(parent, LowRank):
            for name, child in list(parent._modules.items()):
                if child is not None:
                    yield parent, name, child


def add_adapters(
    model: nn.Module, layers: Sequence[str] = ("query", "value"), *, rank: int = 8, scale: float = 16.0
) -> list[nn.Parameter]:
    """Freeze a model and put adapters beside some of its linear layers.

    A new head that shall be trained in full must be unfrozen afterwards, or is added later. Another call adds adapters
    to other layers, and leaves the first ones as they are. A layer with two of the names gets one adapter for both.

    Args:
        model: the model, changed in place.
        layers: the last part of the layers' names: ``("query", "value")`` for BERT, as in the paper; ``("qkv",)`` for
            ``VisionTransformer``, whose one map gives all three.
        rank: r. Default 8.
        scale: s. Default 16.

    Returns:
        The adapters' parameters.

    Raises:
        ValueError: if no linear layer without an adapter has such a name, or as for ``LowRank``. The model is then as
            it was.

    Example:
        >>> from lookbehind.models import build
        >>> model = build("vit-tiny")
        >>> sum(p.numel() for p in add_adapters(model, ["qkv"], rank=4))
        4096

    """
    named = [(parent, name, child) for parent, name, child in _children(model) if name in layers]
    found = [(parent, name, child) for parent, name, child in named if isinstance(child, nn.Linear)]
    if not found:
        without = " without an adapter" if any(isinstance(child, LowRank) for _, _, child in named) else ""
        raise ValueError(
            f"layers is {tuple(layers)}; no linear layer{without} of {type(model).__name__} has such a name"
        )
    for _, _, linear in found:
        _check(linear, rank)
    kept = {id(p) for m in model.modules() if isinstance(m, LowRank) for p in (m.down, m.up)}
    for p in model.parameters():
        if id(p) not in kept:
            p.requires_grad_(False)
    adapters: dict[nn.Linear, LowRank] = {}
    for parent, name, linear in found:
        if linear not in adapters:
            adapters[linear] = LowRank(linear, rank, scale)
        setattr(parent, name, adapters[linear])
    return [p for adapter in adapters.values() for p in (adapter.down, adapter.up)]


def merge_adapters(model: nn.Module) -> nn.Module:
    """Fold all adapters into their linear layers, in place, for use without this package.

    A weight that was tied to another module's is tied no longer.
    """
    merged: dict[LowRank, nn.Linear] = {}
    for parent, name, adapter in _children(model):
        if isinstance(adapter, LowRank):
            if adapter not in merged:
                merged[adapter] = adapter.merged()
            setattr(parent, name, merged[adapter])
    return model


def unmerge_adapters(model: nn.Module) -> nn.Module:
    """Put back the adapters that ``merge_adapters`` folded in, in place and bit for bit.

    Changes of the merged weights are lost. A model that was only loaded from a merged ``state_dict`` has no adapters.

    Raises:
        ValueError: if no layer of the model was merged.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3))
        >>> adapters = add_adapters(model, ["0"], rank=2)
        >>> type(merge_adapters(model)[0]).__name__, type(unmerge_adapters(model)[0]).__name__
        ('Linear', 'LowRank')

    """
    merged = [(parent, name, child) for parent, name, child in _children(model) if _ADAPTER in vars(child)]
    if not merged:
        raise ValueError(f"no layer of {type(model).__name__} was merged; call merge_adapters first")
    for parent, name, layer in merged:
        setattr(parent, name, vars(layer)[_ADAPTER].to(layer.weight.device))
    return model
