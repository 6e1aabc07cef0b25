"""Algorithm 1 of Mordido et al., 2024, taken at its word: two gradients in each inner step, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer


class LiteralLookbehind:
    """Lookbehind with 2k gradients an outer step."""

    def __init__(self, base: Optimizer, rho: float = 0.05, k: int = 2, alpha: float = 0.5) -> None:
        self.base, self.rho, self.k, self.alpha = base, rho, k, alpha
        self.weights = [p for group in base.param_groups for p in group["params"]]

    def step(self, closure: Callable[[], Tensor]) -> None:
        slow = self._copies()
        fast, perturbed = slow, slow
        for _ in range(self.k):
            self._put(perturbed)
            closure()  # line 6
            norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p.grad) for p in self.weights]))
            perturbed = [p.detach() + self.rho * (p.grad / norm) for p in self.weights]
            self._put(perturbed)
            closure()  # line 8
            self._put(fast)
            self.base.step()
            fast = self._copies()
        self._put([s + self.alpha * (f - s) for s, f in zip(slow, fast, strict=True)])  # line 10

    def _copies(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.weights]

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for p, value in zip(self.weights, values, strict=True):
            p.copy_(value)
