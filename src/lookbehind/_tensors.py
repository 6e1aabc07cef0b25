"""Arithmetic on lists of tensors: one foreach call each, no host synchronisation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from lookbehind._distributed import any_dtensor, local_tensors, sums_over_shards


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
        torch._foreach_copy_(local_tensors(targets), local_tensors(sources))


def clones(tensors: list[Tensor]) -> list[Tensor]:
    """Return copies; of DTensors, of this process's part."""
    tensors = local_tensors(tensors)
    copies = [torch.empty_like(t) for t in tensors]
    copy_(copies, tensors)
    return copies


def add_(targets: list[Tensor], terms: list[Tensor], factor: float = 1.0) -> None:
    """Targets ← targets + factor · terms."""
    if targets:
        torch._foreach_add_(local_tensors(targets), local_tensors(terms), alpha=factor)


def divide_(targets: list[Tensor], divisor: float) -> None:
    """Targets ← targets / divisor."""
    if targets:
        torch._foreach_div_(local_tensors(targets), divisor)


def on_host(tensor: Tensor) -> bool:
    """Whether a number in a tensor can be read without waiting for a device."""
    return tensor.is_cpu


def add_unit_(targets: list[Tensor], terms: list[Tensor], length: Tensor | list[Tensor], factor: float) -> None:
    """Targets ← targets + factor · terms / length, rounded as ``add_(targets, unit(terms, length), factor)`` is."""
    if not targets:
        return
    targets, terms = local_tensors(targets), local_tensors(terms)
    if isinstance(length, Tensor) and on_host(length) and alike(targets + terms, length):
        # One kernel, which rounds terms / length before it adds, as the two would.
        scale = 1.0 / max(length.item(), torch.finfo(length.dtype).tiny)
        factors = [torch.scalar_tensor(factor, dtype=length.dtype, device=length.device)] * len(terms)
        torch._foreach_addcmul_(targets, terms, factors, value=scale)
    else:
        add_(targets, unit(terms, length), factor)


def lerp_(targets: list[Tensor], ends: list[Tensor], weight: float | list[Tensor]) -> None:
    """Targets ← targets + weight · (ends − targets), with one weight for all or a 0-dim tensor for each."""
    if not targets:
        return
    targets, ends = local_tensors(targets), local_tensors(ends)
    if isinstance(weight, float):
        torch._foreach_lerp_(targets, ends, weight)
    else:
        targets = as_real(targets)
        weights = [w.to(t.device, t.dtype) for w, t in zip(weight, targets, strict=True)]
        torch._foreach_lerp_(targets, as_real(ends), weights)


def lerp_from_(targets: list[Tensor], starts: list[Tensor], weight: float | list[Tensor]) -> None:
    """Targets ← starts + weight · (targets − starts), rounded as ``lerp_`` from starts to targets is."""
    if not targets:
        return
    targets, starts = as_real(local_tensors(targets)), as_real(local_tensors(starts))
    if isinstance(weight, float):
        weights: list[Any] = [weight] * len(targets)
    else:
        weights = [w.to(t.device, t.dtype) for w, t in zip(weight, targets, strict=True)]
    if on_host(targets[0]):  # no kernel takes all tensors at once there, so each can be written in place
        for t, s, w in zip(targets, starts, weights, strict=True):
            torch.lerp(s, t, w, out=t)
    else:
        copy_(targets, list(torch._foreach_lerp(starts, targets, weight if isinstance(weight, float) else weights)))


def keep_unchanged_(kept: list[Tensor], now: list[Tensor], was: list[Tensor]) -> None:
    """Kept ← now, in the elements where now is not what it was."""
    for k, n, w in zip(local_tensors(kept), local_tensors(now), local_tensors(was), strict=True):
        if not (on_host(n) and torch.equal(n, w)):  # else the device decides, and nobody waits for it
            torch.where(n == w, k, n, out=k)


def norms(tensors: list[Tensor], like: Sequence[Tensor] | None = None) -> list[Tensor]:
    """‖·‖₂ of each tensor, in float32 or wider: 0-dim tensors on the device of the first.

    Of DTensors the norms are those of the full tensors, the same on every rank. Where ``tensors`` are local parts,
    ``like`` is the list of DTensors that tells how they are sharded.
    """
    like = tensors if like is None else like
    tensors = local_tensors(tensors)
    first = tensors[0]
    if alike(tensors, first):
        found = list(torch._foreach_norm(tensors, 2, dtype=wide(first.dtype)))
        if not any_dtensor(like):
            return found
    else:
        by_width = defaultdict(list)
        for j, t in enumerate(tensors):
            by_width[wide(t.dtype)].append(j)
        found = [first] * len(tensors)
        for dtype, members in by_width.items():
            for j, n in zip(members, torch._foreach_norm([tensors[j] for j in members], 2, dtype=dtype), strict=True):
                found[j] = n
    if any_dtensor(like):
        found = [square.sqrt() for square in sums_over_shards([n.square() for n in found], like)]
    return found if alike(found, found[0]) else [n.to(first.device) for n in found]


def total_norm(norms: list[Tensor]) -> Tensor:
    """‖·‖₂ over all elements of all tensors, from the norms of each."""
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


def norm(tensors: list[Tensor], like: Sequence[Tensor] | None = None) -> Tensor:
    """‖·‖₂ over all elements of all tensors: a 0-dim tensor. See ``norms``."""
    return total_norm(norms(tensors, like))


def dots(a: list[Tensor], b: list[Tensor], like: Sequence[Tensor] | None = None) -> Tensor:
    """⟨aⱼ, bⱼ⟩ of each pair, in float32 or wider, on the device of the first. ``like``: see ``norms``."""
    like = a if like is None else like
    a, b = as_real(local_tensors(a)), as_real(local_tensors(b))
    wider = ([t if t.dtype is wide(t.dtype) else t.to(wide(t.dtype)) for t in ts] for ts in (a, b))
    products = [product.sum() for product in torch._foreach_mul(*wider)]
    first = products[0]
    if not alike(products, first):
        products = [p.to(first.device) for p in products]
    return torch.stack(sums_over_shards(products, like))


def unit(tensors: list[Tensor], length: Tensor | list[Tensor]) -> list[Tensor]:
    """Tensors / length, with one length for all or one for each.

    Zero where the length is zero, NaN where it is NaN, shorter where 1 / length would overflow.
    """
    if not isinstance(length, Tensor):
        return [u for t, one in zip(tensors, length, strict=True) for u in unit([t], one)]
    return scaled(tensors, length.clamp_min(torch.finfo(length.dtype).tiny).reciprocal_())


def scaled(tensors: list[Tensor], factor: Tensor) -> list[Tensor]:
    """Factor · tensors, where the factor is a 0-dim tensor on any device."""
    tensors = local_tensors(tensors)
    if alike(tensors, factor):
        return list(torch._foreach_mul(tensors, factor))
    # Half-precision tensors are multiplied in float32: the factor itself may not fit into their range.
    return [(t.to(wide(t.dtype)) * factor.to(t.device)).to(t.dtype) for t in tensors]
