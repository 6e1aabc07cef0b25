"""Arithmetic on lists of tensors: one foreach call each, no host synchronisation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from lookbehind._distributed import any_dtensor, local_tensors, sums_over_shards


def as_real(tensors: Iterable[Tensor]) -> list[Tensor]:
    """View complex tensors as pairs of reals, as torch's own optimizers do; leave the others as they are."""
    tensors = list(tensors)
    if not any(map(Tensor.is_complex, tensors)):
        return tensors
    return [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in tensors]


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which sums over ``dtype`` are taken: float32 or wider."""
    return dtype if dtype.itemsize >= 4 else torch.float32


def alike(tensors: list[Tensor], other: Tensor) -> bool:
    """Return whether all tensors have the dtype and the device of another."""
    dtype, device = other.dtype, other.device
    if other.is_cpu:  # to compare devices takes as long as all the rest
        return all([t.is_cpu and t.dtype is dtype for t in tensors])  # noqa: C419  (twice as fast)
    return all([t.dtype is dtype and t.device == device for t in tensors])  # noqa: C419  (twice as fast)


def copy_(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Targets ← sources. The tensors stay where they are in memory."""
    if targets:
        torch._foreach_copy_(local_tensors(targets), local_tensors(sources))


def clones(tensors: list[Tensor]) -> list[Tensor]:
    """Return copies; of DTensors, of this process's part."""
    tensors = local_tensors(tensors)
    if tensors and on_host(tensors[0]):
        return [t.clone() for t in tensors]
    copies = [torch.empty_like(t) for t in tensors]  # on a device one kernel copies all
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
    """Return whether a number in a tensor can be read without waiting for a device."""
    return tensor.is_cpu


def add_unit_(targets: list[Tensor], terms: list[Tensor], length: Tensor | list[Tensor], factor: float) -> None:
    """Targets ← targets + factor · terms / length, rounded as ``add_(targets, unit(terms, length), factor)`` is."""
    if not targets:
        return
    targets, terms = local_tensors(targets), local_tensors(terms)
    if not isinstance(length, list) and on_host(length) and alike(targets + terms, length):
        # One kernel, which rounds terms / length before it adds, as the two would.
        number = length.item()
        scale = 0.0 if number * torch.finfo(length.dtype).max < 1.0 else 1.0 / number
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
    found = _norms(tensors, like)
    for j, length in enumerate(found):
        if scale := _scale(length):
            found[j] = (_norm_in_double(tensors[j], like[j], scale) / scale).to(length.dtype)
    return [_narrowed(length, tensors) for length in found]


def norm(tensors: list[Tensor], like: Sequence[Tensor] | None = None) -> Tensor:
    """‖·‖₂ over all elements of all tensors: a 0-dim tensor. See ``norms``."""
    like = tensors if like is None else like
    total = total_norm(_norms(tensors, like))
    if scale := _scale(total):
        each = [_norm_in_double(t, as_sharded, scale) for t, as_sharded in zip(tensors, like, strict=True)]
        total = (total_norm(each) / scale).to(total.dtype)
    return _narrowed(total, tensors)


def total_norm(norms: list[Tensor]) -> Tensor:
    """‖·‖₂ over all elements of all tensors, from the norms of each."""
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


def _norms(tensors: list[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    if sharded := any_dtensor(like):
        tensors = local_tensors(tensors)
    first = tensors[0]
    if alike(tensors, first):
        found = list(torch._foreach_norm(tensors, 2, dtype=_dtype_of_squares(first)))
        if not sharded:
            return found
    else:
        by_width = defaultdict(list)
        for j, t in enumerate(tensors):
            by_width[_dtype_of_squares(t)].append(j)
        found = [first] * len(tensors)
        for dtype, members in by_width.items():
            for j, n in zip(members, torch._foreach_norm([tensors[j] for j in members], 2, dtype=dtype), strict=True):
                found[j] = n
    if sharded:
        found = [square.sqrt() for square in sums_over_shards([n.square() for n in found], like)]
    return found if alike(found, found[0]) else [n.to(first.device) for n in found]


def _dtype_of_squares(t: Tensor) -> torch.dtype:
    """Squares of float32 can vanish or overflow. CUDA's kernel widens as it reads; elsewhere that costs a copy."""
    return torch.float64 if (t.is_cuda or is_compiling()) and not t.is_complex() else wide(t.dtype)


def _scale(length: Tensor) -> float:
    """Return by what to multiply tensors in float64, if their squares have vanished or overflowed; else 0."""
    if is_compiling() or not on_host(length):
        return 0.0
    number, double = length.item(), length.dtype is torch.float64
    if number < (2.0**-450 if double else 2.0**-36):  # 2^30 squares may have vanished
        return 2.0**600 if double else 1.0
    if number == float("inf"):
        return 2.0**-600 if double else 1.0
    return 0.0


def _norm_in_double(tensor: Tensor, like: Tensor, scale: float) -> Tensor:
    """Return ‖scale · tensor‖₂ in float64."""
    [real] = as_real(local_tensors([tensor]))
    return _norms([real.double() if scale == 1.0 else real.double() * scale], [like])[0]


def _narrowed(length: Tensor, tensors: list[Tensor]) -> Tensor:
    """Return a length of single-precision tensors in float32, also where its squares were wider."""
    if not (length.is_cuda or is_compiling()) or any(t.dtype is torch.float64 for t in tensors):
        return length
    return length.to(torch.float32)


def dots(a: list[Tensor], b: list[Tensor], like: Sequence[Tensor] | None = None) -> Tensor:
    """⟨aⱼ, bⱼ⟩ of each pair, in float32 or wider, on the device of the first. ``like``: see ``norms``."""
    like = a if like is None else like
    a, b = as_real(local_tensors(a)), as_real(local_tensors(b))
    found = _dots(a, b, like)
    # Products can vanish or overflow, as squares do.
    if not is_compiling() and on_host(found) and not all(2.0**-80 < abs(dot) < float("inf") for dot in found.tolist()):
        found = _dots([t.double() for t in a], [t.double() for t in b], like)
    return found


def _dots(a: list[Tensor], b: list[Tensor], like: Sequence[Tensor]) -> Tensor:
    wider = ([t if t.dtype is wide(t.dtype) else t.to(wide(t.dtype)) for t in ts] for ts in (a, b))
    products = [product.sum() for product in torch._foreach_mul(*wider)]
    first = products[0]
    if not alike(products, first):
        products = [p.to(first.device) for p in products]
    return torch.stack(sums_over_shards(products, like))


def unit(tensors: list[Tensor], length: Tensor | list[Tensor]) -> list[Tensor]:
    """Tensors / length, with one length for all or one for each.

    Zero where the length is zero or so small that 1 / length would overflow; NaN where it is NaN.
    """
    if not isinstance(length, Tensor):
        return [u for t, one in zip(tensors, length, strict=True) for u in unit([t], one)]
    return scaled(tensors, length.reciprocal().nan_to_num_(nan=float("nan"), posinf=0.0))


def scaled(tensors: list[Tensor], factor: Tensor) -> list[Tensor]:
    """Factor · tensors, where the factor is a 0-dim tensor on any device."""
    tensors = local_tensors(tensors)
    if alike(tensors, factor):
        return list(torch._foreach_mul(tensors, factor))
    # Half-precision tensors are multiplied in float32: the factor itself may not fit into their range.
    return [(t.to(wide(t.dtype)) * factor.to(t.device)).to(t.dtype) for t in tensors]


def scale_(tensors: list[Tensor], factor: float | Tensor) -> None:
    """Tensors ← factor · tensors, where the factor is a number, or a 0-dim tensor on any device."""
    if not tensors or (isinstance(factor, float) and factor == 1.0):
        return
    tensors = local_tensors(tensors)
    if isinstance(factor, float) or alike(tensors, factor):
        torch._foreach_mul_(tensors, factor)
    else:
        copy_(tensors, scaled(tensors, factor))


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """A / b of 0-dim tensors, in the dtype of b. Zero where b is zero, or so small that a / b would overflow.

    NaN, or an a that is infinite, gives NaN.
    """
    quotient = torch.where(b == 0, torch.zeros_like(b), a / b).to(b.dtype)
    return quotient.nan_to_num_(nan=float("nan"), posinf=0.0, neginf=0.0) + (a - a).to(b.dtype)
