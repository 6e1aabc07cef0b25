"""GNP by hand: (1 − α) g + α g_s."""

from __future__ import annotations

from typing import Any

from tests.oracle.algorithms import Base, Gradient, Weights, plus
from tests.oracle.family import mixed

VARIANTS: list[dict[str, Any]] = [{}, {"alpha": 0.3}]


class Oracle:
    def __init__(self, gradient: Gradient, base: Base, epsilon: Any, alpha: float = 0.8) -> None:
        self.gradient, self.base, self.epsilon, self.alpha = gradient, base, epsilon, alpha

    def step(self, phi: Weights, minibatches: list[Any]) -> Weights:
        [d] = minibatches
        g = self.gradient(phi, d)
        g_s = self.gradient(plus(phi, self.epsilon(phi, g)), d)
        return self.base.step(phi, mixed(1 - self.alpha, g, self.alpha, g_s))
