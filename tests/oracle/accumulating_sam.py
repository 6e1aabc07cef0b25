"""Climb while accumulating by hand: h_i = ∇L_i(φ'_{i−1}), a climb of ρ along each but the last; the mean descends."""

from __future__ import annotations

from typing import Any

from tests.oracle.algorithms import Base, Gradient, Weights, plus

VARIANTS: list[dict[str, Any]] = [{}, {"anchored": True}]


class Oracle:
    def __init__(self, gradient: Gradient, base: Base, epsilon: Any, anchored: bool = False) -> None:
        self.gradient, self.base, self.epsilon, self.anchored = gradient, base, epsilon, anchored

    def step(self, phi: Weights, minibatches: list[Any], climbs: bool = True) -> Weights:
        at, found = phi, []
        for d in minibatches:
            found.append(self.gradient(at, d))
            if climbs:
                start = phi if self.anchored else at
                at = plus(start, self.epsilon(start, found[-1]))
        return self.base.step(phi, [sum(h) / len(minibatches) for h in zip(*found, strict=True)])

    def plain(self, phi: Weights, minibatches: list[Any]) -> Weights:
        return self.step(phi, minibatches, climbs=False)
