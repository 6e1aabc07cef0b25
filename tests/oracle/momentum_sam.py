"""Momentum-SAM by hand: h = ∇L(w − ρ v/‖v‖); the base steps with h from w."""

from __future__ import annotations

from typing import Any

from tests.oracle.algorithms import SGD, Base, Gradient, Weights, minus, plus

VARIANTS: list[dict[str, Any]] = [{}, {"along": "displacement"}]


class Oracle:
    def __init__(self, gradient: Gradient, base: Base, epsilon: Any, along: str | None = None) -> None:
        self.gradient, self.base, self.epsilon = gradient, base, epsilon
        has_momentum = not isinstance(base, SGD) or base.momentum > 0
        self.along = along or ("momentum" if has_momentum else "displacement")
        self.displacement: Weights | None = None

    def step(self, phi: Weights, minibatches: list[Any]) -> Weights:
        at = phi
        if self.along == "displacement":
            if self.displacement is not None:
                at = plus(phi, self.epsilon(phi, self.displacement))
        else:
            v = self.base.v if isinstance(self.base, SGD) else self.base.m
            if v is not None:
                at = minus(phi, self.epsilon(phi, v))
        return self._descend(phi, self.gradient(at, minibatches[0]))

    def plain(self, phi: Weights, minibatches: list[Any]) -> Weights:
        return self._descend(phi, self.gradient(phi, minibatches[0]))

    def _descend(self, phi: Weights, g: Weights) -> Weights:
        after = self.base.step(phi, g)
        self.displacement = minus(after, phi)
        return after
