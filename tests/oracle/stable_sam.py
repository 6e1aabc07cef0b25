"""StableSAM by hand: (‖g‖/‖g_s‖) g_s."""

from __future__ import annotations

from typing import Any

from tests.oracle.algorithms import Base, Gradient, Weights, norm, plus

VARIANTS: list[dict[str, Any]] = [{}]


class Oracle:
    def __init__(self, gradient: Gradient, base: Base, epsilon: Any) -> None:
        self.gradient, self.base, self.epsilon = gradient, base, epsilon

    def step(self, phi: Weights, minibatches: list[Any]) -> Weights:
        [d] = minibatches
        g = self.gradient(phi, d)
        g_s = self.gradient(plus(phi, self.epsilon(phi, g)), d)
        return self.base.step(phi, [x * norm(g) / norm(g_s) for x in g_s])
