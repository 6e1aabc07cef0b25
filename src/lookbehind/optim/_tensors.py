"""Arithmetic on lists of tensors: one foreach call each, no host synchronisation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lookbehind.optim._processes import shard, whole


def as_real(tensors: Iterable[Tensor]) -> list[Tensor]:
    """View complex tensors as pairs of reals, as torch's own optimizers do; leave the others as they are."""
    return [torch.view_as_real(t) if t.is_complex() else t for t in tensors]


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which sums over ``dtype`` are taken: float32 or wider."""
    return dtype if dtype.itemsize >= 4 else torch.float32


def copy_(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Targets ← sources. The tensors stay where they are in memory."""
    if targets:
        torch._foreach_copy_(shard(targets), shard(sources))


def clones(tensors: list[Tensor]) -> list[Tensor]:
    """Return copies; of DTensors, of this process's part."""
    tensors = shard(tensors)
    copies = [torch.empty_like(t) for t in tensors]
    copy_(copies, tensors)
    return copies


def add_(targets: list[Tensor], terms: list[Tensor], factor: float = 1.0) -> None:
    """Targets ← targets + factor · terms."""
    if targets:
        torch._foreach_add_(shard(targets), shard(terms), alpha=factor)


def lerp_(targets: list[Tensor], ends: list[Tensor], weight: float | list[Tensor]) -> None:
    """Targets ← targets + weight · (ends − targets), with one weight for all or a 0-dim tensor for each."""
    if not targets:
        return
    targets, ends = shard(targets), shard(ends)
    if isinstance(weight, float):
        torch._foreach_lerp_(targets, ends, weight)
    else:
        targets = as_real(targets)
        weights = [w.to(t.device, t.dtype) for w, t in zip(weight, targets, strict=True)]
        torch._foreach_lerp_(targets, as_real(ends), weights)


def norm(tensors: list[Tensor]) -> Tensor:
    """‖·‖₂ over all elements of all tensors, in float32 or wider: a 0-dim tensor on the device of the first."""
    by_width = defaultdict(list)
    for t in tensors:
        by_width[wide(t.dtype)].append(t)
    norms: list[Tensor] = [n for dtype, group in by_width.items() for n in torch._foreach_norm(group, 2, dtype=dtype)]
    return whole(torch.linalg.vector_norm(torch.stack([n.to(tensors[0].device) for n in norms])))


def dots(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """⟨aⱼ, bⱼ⟩ of each pair, in float32 or wider, on the device of the first."""
    wider = ([t.to(wide(t.dtype)) for t in as_real(tensors)] for tensors in (a, b))
    products = [product.sum() for product in torch._foreach_mul(*wider)]
    return whole(torch.stack([p.to(products[0].device) for p in products]))


def unit(tensors: list[Tensor], length: Tensor) -> list[Tensor]:
    """Tensors / length; zero where the length is zero (or too small to divide by), NaN where it is NaN."""
    tiny = torch.finfo(length.dtype).tiny
    return scaled(tensors, length.reciprocal().masked_fill_(length < tiny, 0.0))


def scaled(tensors: list[Tensor], factor: Tensor) -> list[Tensor]:
    """Factor · tensors, where the factor is a 0-dim tensor on any device."""
    narrow = any(wide(dtype) != dtype for dtype in {t.dtype for t in tensors})
    if narrow or {t.device for t in tensors} != {factor.device}:
        # Half-precision tensors are multiplied in float32: the factor itself may not fit into their range.
        return [(t.to(wide(t.dtype)) * factor.to(t.device)).to(t.dtype) for t in tensors]
    return list(torch._foreach_mul(tensors, factor))
