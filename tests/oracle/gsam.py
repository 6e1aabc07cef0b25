"""GSAM by hand: g_s − α (g − (g·û(g_s)) û(g_s))."""

from __future__ import annotations

from typing import Any

from tests.oracle.algorithms import Base, Gradient, Weights, plus
from tests.oracle.family import dot, mixed, unit

VARIANTS: list[dict[str, Any]] = [{}, {"alpha": 0.05}]


class Oracle:
    def __init__(self, gradient: Gradient, base: Base, epsilon: Any, alpha: float = 0.4) -> None:
        self.gradient, self.base, self.epsilon, self.alpha = gradient, base, epsilon, alpha

    def step(self, phi: Weights, minibatches: list[Any]) -> Weights:
        [d] = minibatches
        g = self.gradient(phi, d)
        g_s = self.gradient(plus(phi, self.epsilon(phi, g)), d)
        u = unit(g_s)
        across = mixed(1.0, g, -dot(g, u), u)
        return self.base.step(phi, mixed(1.0, g_s, -self.alpha, across))
