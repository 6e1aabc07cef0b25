"""Refuse parameters whose memory a method cannot know: shared with another parameter, or flattened by FSDP1."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from lookbehind._distributed import local_tensors


def require_memory_of_their_own(params: list[Tensor], name_of: Callable[[Tensor], str]) -> None:
    """Raise if two parameters share memory, or if FSDP1 has flattened one.

    Two parameters in one memory (after ``load_state_dict(assign=True)`` on a tied model, say) would be perturbed,
    interpolated and decayed twice.
    """
    places = []
    for p, t in zip(params, local_tensors(params), strict=True):
        if getattr(p, "_fsdp_flattened", False):
            raise ValueError(
                f"{name_of(p)} belongs to FSDP1, which shows each rank a different part of it, so a norm over all "
                "parameters cannot be taken; shard the model by torch.distributed.fsdp.fully_shard (FSDP2)"
            )
        if not isinstance(t, (UninitializedBuffer, UninitializedParameter)) and t.numel() and (place := t.data_ptr()):
            places.append((place, t.nbytes if t.is_contiguous() else 1, p))
    places.sort(key=lambda found: found[0])
    for (place, size, p), (following, _, q) in pairwise(places):
        if following < place + size:
            raise ValueError(
                f"{name_of(p)} and {name_of(q)} share their memory, so a step would move it twice; make them one "
                "parameter before the optimizer is made, as in `b.weight = a.weight`"
            )
