"""A tiny net in float64, and minibatches of three tasks of two classes for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WAYS, TASKS, INPUTS, HIDDEN = 2, 3, 4, 5


class Tiny(nn.Module):
    """logits = B tanh(A x)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.a = nn.Parameter(torch.randn(HIDDEN, INPUTS, generator=g, dtype=torch.float64))
        self.b = nn.Parameter(torch.randn(TASKS * WAYS, HIDDEN, generator=g, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.a.T) @ self.b.T


def minibatches(n: int = 10, each: int = 3, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    """``each`` minibatches of every task, in the order of the tasks."""
    g = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(n, INPUTS, generator=g, dtype=torch.float64),
            torch.randint(t * WAYS, (t + 1) * WAYS, (n,), generator=g),
        )
        for t in range(TASKS)
        for _ in range(each)
    ]
