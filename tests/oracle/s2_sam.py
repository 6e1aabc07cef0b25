"""The chain by hand: h_t = ∇L_t(φ + ρ û(h_{t−1})). With k minibatches, Lookbehind with one gradient for each."""

from __future__ import annotations

from typing import Any

from tests.oracle.algorithms import Base, Gradient, Weights, plus

VARIANTS: list[dict[str, Any]] = [{}, {"k": 3, "alpha": 0.6}, {"k": 2, "alpha": 1.0}]


class Oracle:
    def __init__(self, gradient: Gradient, base: Base, epsilon: Any, k: int = 1, alpha: float = 1.0) -> None:
        self.gradient, self.base, self.epsilon, self.k, self.alpha = gradient, base, epsilon, k, alpha
        self.h: Weights | None = None

    def step(self, phi: Weights, minibatches: list[Any], climbs: bool = True) -> Weights:
        perturbed = fast = phi
        for d in minibatches:
            if self.h is not None and climbs:
                perturbed = plus(perturbed, self.epsilon(perturbed, self.h))
            self.h = self.gradient(perturbed, d)
            fast = self.base.step(fast, self.h)
        return [w + self.alpha * (v - w) for w, v in zip(phi, fast, strict=True)]

    def plain(self, phi: Weights, minibatches: list[Any]) -> Weights:
        return self.step(phi, minibatches, climbs=False)
