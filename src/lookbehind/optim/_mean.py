"""The mean of several gradients of a step."""

from __future__ import annotations

import torch
from torch import Tensor

from lookbehind._tensors import add_, copy_, divide_, scale_


class MeanGradient:
    """The mean of the gradients of a step. A parameter without gradient in a pass adds nothing to the sum."""

    def __init__(self, total: list[Tensor], k: int) -> None:
        self.total, self.k = total, k
        self.begun = [False] * len(total)
        # The sum of float16 could overflow where its mean does not: there each addend is divided.
        self.share = 1.0 / k if any(t.dtype is torch.float16 for t in total) else 1.0

    def add(self, params: list[Tensor]) -> None:
        held = [(j, p.grad) for j, p in enumerate(params) if p.grad is not None]
        going_on = [(self.total[j], grad) for j, grad in held if self.begun[j]]
        beginning = [(self.total[j], grad) for j, grad in held if not self.begun[j]]
        add_([total for total, _ in going_on], [grad for _, grad in going_on], self.share)
        copy_([total for total, _ in beginning], [grad for _, grad in beginning])
        scale_([total for total, _ in beginning], self.share)
        for j, _ in held:
            self.begun[j] = True

    def put(self, params: list[Tensor]) -> None:
        """Leave in ``.grad``, where the last gradient is, the mean of all."""
        scale_([p.grad for p in params if p.grad is not None], self.share)
        begun = [(p, total) for p, total, begun in zip(params, self.total, self.begun, strict=True) if begun]
        held = [(p.grad, total) for p, total in begun if p.grad is not None]
        add_([grad for grad, _ in held], [total for _, total in held])
        for p, total in begun:
            if p.grad is None:
                p.grad = total.clone()
        if self.share == 1.0:
            divide_([p.grad for p in params if p.grad is not None], self.k)
