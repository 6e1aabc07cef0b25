"""Learning rates of Vaswani et al. (2017), counted in steps of the base optimizer."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def inverse_square_root(base: Optimizer, warmup: int) -> LambdaLR:
    r"""Return rates that rise from 0 to η, and then fall with the square root of the number of steps.

    .. math:: \eta_n = \eta \min\left(\frac{n}{w}, \sqrt{\frac{w}{n}}\right)

    for the step after n steps (fairseq's ``inverse_sqrt``). Each step of the base optimizer moves them on by itself:
    also the inner ones of a Lookbehind around it, which an outer scheduler would not see. So ``step()`` is not to be
    called.

    Args:
        base: the optimizer that moves the weights, with rate η.
        warmup: w ≥ 1.

    Returns:
        The scheduler, for its ``state_dict``.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> base = torch.optim.Adam([weight], lr=1.0)
        >>> schedule = inverse_square_root(base, warmup=2)
        >>> for _ in range(8):
        ...     base.step()
        >>> base.param_groups[0]["lr"]
        0.5

    """
    if warmup < 1:
        raise ValueError(f"warmup is {warmup}; a whole number of at least 1 is needed")
    scheduler = LambdaLR(base, partial(_factor, warmup=warmup))

    def move_on(*_: Any) -> None:
        scheduler.step()

    base.register_step_post_hook(move_on)
    return scheduler


def _factor(steps: int, warmup: int) -> float:
    return min(steps / warmup, (warmup / steps) ** 0.5) if steps else 0.0
