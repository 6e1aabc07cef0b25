"""Fraction-SAM by hand: ∇L_B(φ + ρ û(∇L_A(φ))), or (1 − f) ∇L_rest(φ + ρ û(∇L_A(φ))) + f ∇L_A(φ)."""

from __future__ import annotations

from typing import Any

from tests.oracle.algorithms import Base, Gradient, Weights, plus
from tests.oracle.family import mixed

VARIANTS: list[dict[str, Any]] = [{}, {"descend": "rest"}, {"descend": "rest", "fraction": 0.6}]


class Oracle:
    def __init__(
        self, gradient: Gradient, base: Base, epsilon: Any, fraction: float = 0.25, descend: str = "whole"
    ) -> None:
        self.gradient, self.base, self.epsilon = gradient, base, epsilon
        self.fraction, self.whole = fraction, descend == "whole"

    def step(self, phi: Weights, minibatches: list[Any]) -> Weights:
        part, other = minibatches
        g = self.gradient(phi, part)
        g_s = self.gradient(plus(phi, self.epsilon(phi, g)), other)
        return self.base.step(phi, g_s if self.whole else mixed(1 - self.fraction, g_s, self.fraction, g))

    def plain(self, phi: Weights, minibatches: list[Any]) -> Weights:
        part, other = minibatches
        if self.whole:
            return self.base.step(phi, self.gradient(phi, other))
        g, g_rest = self.gradient(phi, part), self.gradient(phi, other)
        return self.base.step(phi, mixed(1 - self.fraction, g_rest, self.fraction, g))
