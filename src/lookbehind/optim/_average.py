"""A running average of gradients that belongs to each parameter."""

from __future__ import annotations

import torch
from torch import Tensor

from lookbehind._tensors import copy_, lerp_, scale_
from lookbehind.optim._step import Step


def next_average(
    step: Step, name: str, share: float, *, from_zero: bool = False
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Return a saved average as it is and as it will be: (1 − share) · average + share · gradient.

    It begins at a parameter's first gradient, or at zero. A parameter without gradient is left alone: both are None
    there. The first is None also where there is no average yet.
    """
    gradients = step.gradients()
    before = [None if g is None else step.buffers.get(name, p) for p, g in zip(step.params, gradients, strict=True)]
    after = [None if g is None else t for g, t in zip(gradients, step.scratch(name), strict=True)]
    held = [(a, b, g) for a, b, g in zip(after, before, gradients, strict=True) if a is not None and g is not None]
    copy_([a for a, _, _ in held], [g if b is None else b for _, b, g in held])
    lerp_([a for a, b, _ in held if b is not None], [g for _, b, g in held if b is not None], share)
    if from_zero:
        scale_([a for a, b, _ in held if b is None], share)
    return before, after


def save_average(step: Step, name: str, after: list[Tensor | None]) -> None:
    """Let the average be what it will be. The last gradient of the step has been taken."""
    held = [(p, a) for p, a in zip(step.params, after, strict=True) if a is not None]
    copy_(step.buffers.saved(name, [p for p, _ in held], torch.zeros_like), [a for _, a in held])
