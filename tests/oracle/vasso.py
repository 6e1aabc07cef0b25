"""VaSSO by hand: d ← (1 − θ) d + θ g, d = g at first; ε along d."""

from __future__ import annotations

from typing import Any

from tests.oracle.algorithms import Base, Gradient, Weights, plus
from tests.oracle.family import mixed

VARIANTS: list[dict[str, Any]] = [{}, {"theta": 0.4}]


class Oracle:
    def __init__(self, gradient: Gradient, base: Base, epsilon: Any, theta: float = 0.9) -> None:
        self.gradient, self.base, self.epsilon, self.theta = gradient, base, epsilon, theta
        self.d: Weights | None = None

    def _average(self, g: Weights) -> Weights:
        self.d = g if self.d is None else mixed(1 - self.theta, self.d, self.theta, g)
        return self.d

    def step(self, phi: Weights, minibatches: list[Any]) -> Weights:
        [d] = minibatches
        at = plus(phi, self.epsilon(phi, self._average(self.gradient(phi, d))))
        return self.base.step(phi, self.gradient(at, d))

    def plain(self, phi: Weights, minibatches: list[Any]) -> Weights:
        g = self.gradient(phi, minibatches[0])
        self._average(g)
        return self.base.step(phi, g)
