"""LookSAM by hand: at t mod k = 0 SAM, keeping g_v = g_s − (g_s·û(g)) û(g); else g + α ‖g‖ g_v / ‖g_v‖."""

from __future__ import annotations

from typing import Any

from tests.oracle.algorithms import Base, Gradient, Weights, norm, plus
from tests.oracle.family import dot, mixed, unit

VARIANTS: list[dict[str, Any]] = [{}, {"every": 2, "alpha": 0.3}, {"every": 1}]


class Oracle:
    def __init__(self, gradient: Gradient, base: Base, epsilon: Any, every: int = 5, alpha: float = 0.7) -> None:
        self.gradient, self.base, self.epsilon, self.every, self.alpha = gradient, base, epsilon, every, alpha
        self.t = 0
        self.g_v: Weights = []

    def step(self, phi: Weights, minibatches: list[Any]) -> Weights:
        [d] = minibatches
        g = self.gradient(phi, d)
        if self.t % self.every == 0:
            g_s = self.gradient(plus(phi, self.epsilon(phi, g)), d)
            self.g_v = mixed(1.0, g_s, -dot(g_s, unit(g)), unit(g))
            descent = g_s
        else:
            descent = mixed(1.0, g, self.alpha * norm(g) / norm(self.g_v), self.g_v)
        self.t += 1
        return self.base.step(phi, descent)
