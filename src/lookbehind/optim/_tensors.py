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


def alike(tensors: list[Tensor], other: Tensor) -> bool:
    """Whether all tensors have the dtype and the device of another."""
    dtype, device = other.dtype, other.device
    return all(t.dtype is dtype and t.device == device for t in tensors)


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


def divide_(targets: list[Tensor], divisor: float) -> None:
    """Targets ← targets / divisor."""
    if targets:
        torch._foreach_div_(shard(targets), divisor)


def on_host(tensor: Tensor) -> bool:
    """Whether a number in a tensor can be read without waiting for a device."""
    return tensor.is_cpu


def add_unit_(targets: list[Tensor], terms: list[Tensor], length: Tensor, factor: float) -> None:
    """Targets ← targets + factor · terms / length, rounded as ``add_(targets, unit(terms, length), factor)`` is."""
    targets, terms = shard(targets), shard(terms)
    if on_host(length) and alike(targets + terms, length):
        # One kernel, which rounds terms / length before it adds, as the two would.
        scale = 1.0 / max(length.item(), torch.finfo(length.dtype).tiny)
        factors = [torch.scalar_tensor(factor, dtype=length.dtype)] * len(terms)
        torch._foreach_addcmul_(targets, terms, factors, value=scale)
    else:
        add_(targets, unit(terms, length), factor)


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


def norms(tensors: list[Tensor]) -> list[Tensor]:
    """‖·‖₂ of each tensor, in float32 or wider: 0-dim tensors on the device of the first."""
    first = tensors[0]
    if alike(tensors, first):
        return list(torch._foreach_norm(tensors, 2, dtype=wide(first.dtype)))
    by_width = defaultdict(list)
    for t in tensors:
        by_width[wide(t.dtype)].append(t)
    parts = [torch._foreach_norm(group, 2, dtype=dtype) for dtype, group in by_width.items()]
    return [n.to(first.device) for part in parts for n in part]


def joint(norms: list[Tensor]) -> Tensor:
    """‖·‖₂ over all elements of all tensors, from the norms of each."""
    return whole(torch.linalg.vector_norm(torch.stack(norms)))


def norm(tensors: list[Tensor]) -> Tensor:
    """‖·‖₂ over all elements of all tensors, in float32 or wider: a 0-dim tensor on the device of the first."""
    return joint(norms(tensors))


def dots(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """⟨aⱼ, bⱼ⟩ of each pair, in float32 or wider, on the device of the first."""
    wider = ([t if t.dtype is wide(t.dtype) else t.to(wide(t.dtype)) for t in as_real(ts)] for ts in (a, b))
    products = [product.sum() for product in torch._foreach_mul(*wider)]
    first = products[0]
    if not alike(products, first):
        products = [p.to(first.device) for p in products]
    return whole(torch.stack(products))


def unit(tensors: list[Tensor], length: Tensor) -> list[Tensor]:
    """Tensors / length; zero where the length is zero, NaN where it is NaN, shorter where 1 / length would overflow."""
    return scaled(tensors, length.clamp_min(torch.finfo(length.dtype).tiny).reciprocal_())


def scaled(tensors: list[Tensor], factor: Tensor) -> list[Tensor]:
    """Factor · tensors, where the factor is a 0-dim tensor on any device."""
    if alike(tensors, factor):
        return list(torch._foreach_mul(tensors, factor))
    # Half-precision tensors are multiplied in float32: the factor itself may not fit into their range.
    return [(t.to(wide(t.dtype)) * factor.to(t.device)).to(t.dtype) for t in tensors]
