"""DTensor and all-reduce helpers. A DTensor is seen as its local part plus an explicit reduction over its own mesh."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

PLAIN = {Tensor, nn.Parameter}


def is_dtensor(t: Tensor) -> bool:
    """Return whether a tensor is a DTensor. Does not import torch.distributed, and is quick for plain tensors."""
    return type(t) not in PLAIN and hasattr(t, "device_mesh")


def any_dtensor(tensors: Sequence[Tensor]) -> bool:
    """Return whether one of several tensors is a DTensor."""
    return not PLAIN.issuperset(map(type, tensors)) and any(map(is_dtensor, tensors))


def full_tensor(tensor: Tensor) -> Tensor:
    """Return a DTensor as the plain tensor that it stands for, the same on every rank; return others as they are."""
    return tensor.full_tensor() if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def local_tensors(tensors: list[Tensor]) -> list[Tensor]:
    """Return this rank's part of DTensors, sharing their memory; return other tensors as they are."""
    if PLAIN.issuperset(map(type, tensors)):
        return tensors
    return [t.to_local() if is_dtensor(t) else t for t in tensors]  # type: ignore[attr-defined]


def placed_like(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return a gradient with the placement of its weight.

    Sequence parallelism leaves ``Partial`` gradients: each rank holds an addend, whose norm says nothing.
    """
    if not is_dtensor(gradient) or gradient.placements == weight.placements:  # type: ignore[attr-defined]
        return gradient
    return gradient.redistribute(weight.device_mesh, weight.placements)  # type: ignore[attr-defined, no-any-return]


def sums_over_shards(values: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """Add numbers that were computed from local parts over the ranks among which each tensor is sharded.

    Args:
        values: one 0-dim tensor for each tensor in ``like``, computed from its local part.
        like: the tensors. All ranks must pass the same list, with or without gradients: each mesh takes one collective
            for each of its dimensions that shards.

    Returns:
        The sums. Numbers of plain and of replicated tensors are returned as they are.

    """
    sums = list(values)
    members: dict[Any, list[int]] = defaultdict(list)
    for j, t in enumerate(like):
        if is_dtensor(t):
            dims = tuple(d for d, placement in enumerate(t.placements) if not placement.is_replicate())  # type: ignore[attr-defined]
            if dims:
                members[t.device_mesh, dims].append(j)  # type: ignore[attr-defined]
    for (mesh, dims), indices in members.items():
        # With CPU offload the numbers are on the CPU, and the ranks may be able to talk on their devices only.
        together = torch.stack([sums[j] for j in indices]).to(mesh.device_type)
        for d in dims:
            torch.distributed.all_reduce(together, group=mesh.get_group(d))
        for j, value in zip(indices, together.unbind(), strict=True):
            sums[j] = value.to(sums[j].device, sums[j].dtype)
    return sums


def any_rank(flag: Tensor, tensors: Sequence[Tensor], model: Any = None) -> Tensor:
    """Return whether a flag is set on any rank.

    Asked are the ranks that share a mesh of ``tensors`` with this one, and those of a DDP model.
    """
    number = flag.to(torch.float32)
    for mesh in dict.fromkeys(t.device_mesh for t in tensors if is_dtensor(t)):  # type: ignore[attr-defined]
        number = number.to(mesh.device_type)
        for group in mesh.get_all_groups():
            torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX, group=group)
    if model is not None:
        torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX, group=model.process_group)
    return (number > 0).to(flag.device)


def averages(tensors: Sequence[Tensor], model: Any) -> list[Tensor]:
    """Return the means of tensors over the ranks of a ``DistributedDataParallel`` model: one collective a dtype."""
    means: list[Tensor] = list(tensors)
    for dtype in dict.fromkeys(t.dtype for t in tensors):
        indices = [j for j, t in enumerate(tensors) if t.dtype == dtype]
        flat = torch.cat([tensors[j].flatten() for j in indices])
        torch.distributed.all_reduce(flat, group=model.process_group)
        flat /= torch.distributed.get_world_size(model.process_group)
        for j, mean in zip(indices, flat.split([tensors[j].numel() for j in indices]), strict=True):
            means[j] = mean.view_as(tensors[j])
    return means
