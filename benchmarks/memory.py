"""Copies of the parameters that an optimizer holds between steps and at the peak inside one, counted by the profiler.

Every allocation of storage is an event of torch's profiler. The closure only writes gradients, so what is counted is
the optimizer's own; the base is SGD without momentum, which has no state.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from benchmarks.contenders import Contender, Step
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

SIZE = 1 << 18  # numbers in the one parameter; what is small beside it does not count


@dataclass(frozen=True)
class Row:
    """One contender's memory, in copies of the parameters."""

    owner: str
    name: str
    between_steps: float
    peak: float
    allocated_by_a_step: float  # all that is allocated within a later step, whether freed or not


class One(nn.Module):
    """A model of one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(SIZE))


def copies(contender: Contender) -> Row:
    """Count a contender's copies over its construction and four steps, and what a fifth one allocates."""
    model = One()
    p, gradient = model.weight, torch.randn(SIZE)
    unit = p.numel() * p.element_size()
    gradients = 0  # allocated by the closure
    step: Step = lambda closure: None  # noqa: E731

    def closure() -> Tensor:
        nonlocal gradients
        with torch.no_grad():
            if p.grad is None:  # an optimizer has freed it
                gradients += 1
                p.grad = gradient.clone()
            p.grad.copy_(gradient)
        return torch.zeros((), requires_grad=True)

    def from_the_start() -> None:
        nonlocal step
        closure()
        step = contender.step(model, torch.optim.SGD, {"lr": 1e-3})
        for _ in range(4):
            step(closure)

    held, peak = 0, 0
    for change in _changes(from_the_start):
        held += change
        peak = max(peak, held)
    gradients = 0
    later = sum(change for change in _changes(lambda: step(closure)) if change > 0)
    # One gradient is the model's own, at all times.
    numbers = held / unit - 1, peak / unit - 1, later / unit - gradients
    return Row(contender.owner, contender.name, *(round(n, 2) for n in numbers))


def _changes(action: Callable[[], None]) -> list[int]:
    """Return the bytes that are allocated (> 0) and freed (< 0), one after another."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    return [e.nbytes() for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
