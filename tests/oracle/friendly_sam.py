"""Friendly-SAM by hand. Official: ε along g − σ m, then m ← λ m + (1 − λ) g, m = g at first. Paper: m first, from 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracle.algorithms import Base, Gradient, Weights, plus
from tests.oracle.family import mixed

VARIANTS: list[dict[str, Any]] = [
    {},
    {"sigma": 0.5, "lam": 0.6},
    {"order": "paper"},
    {"order": "paper", "sigma": 0.7, "lam": 0.6},
]


class Oracle:
    def __init__(
        self,
        gradient: Gradient,
        base: Base,
        epsilon: Any,
        sigma: float = 1.0,
        lam: float = 0.9,
        order: str = "official",
    ) -> None:
        self.gradient, self.base, self.epsilon = gradient, base, epsilon
        self.sigma, self.lam, self.order = sigma, lam, order
        self.m: Weights | None = None

    def _direction(self, g: Weights) -> Weights:
        if self.order == "paper":
            m = self.m if self.m is not None else [np.zeros_like(x) for x in g]
            self.m = mixed(self.lam, m, 1 - self.lam, g)
            return mixed(1.0, g, -self.sigma, self.m)
        if self.m is None:
            self.m = g
            return g
        direction = mixed(1.0, g, -self.sigma, self.m)
        self.m = mixed(self.lam, self.m, 1 - self.lam, g)
        return direction

    def step(self, phi: Weights, minibatches: list[Any]) -> Weights:
        [d] = minibatches
        at = plus(phi, self.epsilon(phi, self._direction(self.gradient(phi, d))))
        return self.base.step(phi, self.gradient(at, d))

    def plain(self, phi: Weights, minibatches: list[Any]) -> Weights:
        g = self.gradient(phi, minibatches[0])
        self._direction(g)
        return self.base.step(phi, g)
