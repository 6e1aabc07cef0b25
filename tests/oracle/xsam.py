"""XSAM by hand: ‖g_k‖ slerp(û(φ'_k − φ), û(g_k); α)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracle.algorithms import Base, Gradient, Weights, minus, norm, plus
from tests.oracle.family import dot, mixed, unit

VARIANTS: list[dict[str, Any]] = [
    {"alpha": 0.6},
    {"alpha": 1.7, "k": 3},
    {"alpha": 0.0},
    {"alpha": 2.0, "k": 2},
    {},
]


class Oracle:
    def __init__(self, gradient: Gradient, base: Base, epsilon: Any, k: int = 1, alpha: float = 1.0) -> None:
        self.gradient, self.base, self.epsilon, self.k, self.alpha = gradient, base, epsilon, k, alpha

    def step(self, phi: Weights, minibatches: list[Any]) -> Weights:
        [d] = minibatches
        at, g = phi, self.gradient(phi, d)
        for _ in range(self.k):
            at = plus(at, self.epsilon(at, g))
            g = self.gradient(at, d)
        v_0, v_1 = unit(minus(at, phi)), unit(g)
        theta = float(np.arccos(dot(v_0, v_1)))
        shares = np.sin((1 - self.alpha) * theta) / np.sin(theta), np.sin(self.alpha * theta) / np.sin(theta)
        return self.base.step(phi, [norm(g) * x for x in mixed(float(shares[0]), v_0, float(shares[1]), v_1)])
