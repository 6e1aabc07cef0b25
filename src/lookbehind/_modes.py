"""Caches of torch that hold what was computed from earlier values of weights."""

from __future__ import annotations

import torch
from torch.nn.utils import parametrize


def clear_weight_caches() -> None:
    """Clear what torch computed from earlier values of weights: autocast's casts, and cached parametrizations."""
    torch.clear_autocast_cache()
    if parametrize._cache_enabled:
        parametrize._cache.clear()
