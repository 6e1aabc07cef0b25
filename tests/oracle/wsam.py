"""WSAM by hand: g + γ/(1 − γ) (g_s − g), in the base's step or after it at the rate η."""

from __future__ import annotations

from typing import Any

from tests.oracle.algorithms import Base, Gradient, Weights, minus, plus
from tests.oracle.family import mixed

VARIANTS: list[dict[str, Any]] = [{"gamma": 0.6}, {"gamma": 0.6, "decoupled": False}, {"gamma": 0.3}]


class Oracle:
    def __init__(self, gradient: Gradient, base: Base, epsilon: Any, gamma: float, decoupled: bool = True) -> None:
        self.gradient, self.base, self.epsilon = gradient, base, epsilon
        self.weight, self.decoupled = gamma / (1 - gamma), decoupled

    def step(self, phi: Weights, minibatches: list[Any]) -> Weights:
        [d] = minibatches
        g = self.gradient(phi, d)
        sharpness = minus(self.gradient(plus(phi, self.epsilon(phi, g)), d), g)
        if not self.decoupled:
            return self.base.step(phi, mixed(1.0, g, self.weight, sharpness))
        return mixed(1.0, self.base.step(phi, g), -self.base.lr * self.weight, sharpness)
