"""What processes must agree on, and how tensors that are spread over them are seen as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


def whole(tensor: Tensor) -> Tensor:
    """Return a DTensor as the plain tensor that it stands for, the same in every process; others as they are."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def shard(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return this process's part of DTensors, sharing their memory; other tensors as they are."""
    return [t.to_local() if hasattr(t, "to_local") else t for t in tensors]


def agree(flag: Tensor, model: Any) -> Tensor:
    """Return whether the flag is set in any process of a ``DistributedDataParallel`` model."""
    number = flag.to(torch.float32)
    torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX, group=model.process_group)
    return number > 0


def average_(tensors: Sequence[Tensor], model: Any) -> None:
    """Replace tensors by their mean over the processes, in one collective for each dtype."""
    for dtype in dict.fromkeys(t.dtype for t in tensors):
        same = [t for t in tensors if t.dtype == dtype]
        flat = torch.cat([t.flatten() for t in same])
        torch.distributed.all_reduce(flat, group=model.process_group)
        flat /= torch.distributed.get_world_size(model.process_group)
        for t, mean in zip(same, flat.split([t.numel() for t in same]), strict=True):
            t.copy_(mean.view_as(t))
