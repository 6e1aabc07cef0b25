"""Naive NumPy float64 transcriptions of the paper, line by line, with backpropagation written by hand.

Nothing here comes from the package's code. A set of weights is a list of arrays. A minibatch is whatever the model's
`gradient(weights, minibatch)` takes. Symbols are the paper's: phi, phi' (phi_p), epsilon, rho, k, alpha, eta.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Weights = list[Array]
Gradient = Callable[[Weights, Any], Weights]


# --- models: loss and gradient -----------------------------------------------------------------------------------


class Quadratic:
    """L(phi) = ½ xᵀ A_d x − b_dᵀ x with x = all tensors in a row; a minibatch d is (A, b)."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        self.shapes = list(shapes)

    def loss(self, phi: Weights, d: Any) -> float:
        (a, b), x = d, np.concatenate([w.ravel() for w in phi])
        return float(0.5 * x @ a @ x - b @ x)

    def gradient(self, phi: Weights, d: Any) -> Weights:
        (a, b), x = d, np.concatenate([w.ravel() for w in phi])
        g = 0.5 * (a + a.T) @ x - b
        ends = np.cumsum([w.size for w in phi])[:-1]
        return [part.reshape(w.shape) for part, w in zip(np.split(g, ends), phi, strict=True)]


def _softmax(logits: Array) -> Array:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class Logistic:
    """Multinomial logistic regression: weights [W (classes × features), b (classes)]; a minibatch is (X, y)."""

    def loss(self, phi: Weights, d: Any) -> float:
        (w, b), (x, y) = phi, d
        return float(-np.log(_softmax(x @ w.T + b)[np.arange(len(y)), y]).mean())

    def gradient(self, phi: Weights, d: Any) -> Weights:
        (w, b), (x, y) = phi, d
        delta = _softmax(x @ w.T + b)
        delta[np.arange(len(y)), y] -= 1
        delta /= len(y)
        return [delta.T @ x, delta.sum(axis=0)]


class TanhNet:
    """softmax(W₂ tanh(W₁ x + b₁) + b₂): weights [W₁, b₁, W₂, b₂]; a minibatch is (X, y)."""

    def loss(self, phi: Weights, d: Any) -> float:
        (w1, b1, w2, b2), (x, y) = phi, d
        probabilities = _softmax(np.tanh(x @ w1.T + b1) @ w2.T + b2)
        return float(-np.log(probabilities[np.arange(len(y)), y]).mean())

    def gradient(self, phi: Weights, d: Any) -> Weights:
        (w1, b1, w2, b2), (x, y) = phi, d
        h = np.tanh(x @ w1.T + b1)
        delta2 = _softmax(h @ w2.T + b2)
        delta2[np.arange(len(y)), y] -= 1
        delta2 /= len(y)
        delta1 = (delta2 @ w2) * (1 - h**2)
        return [delta1.T @ x, delta1.sum(axis=0), delta2.T @ h, delta2.sum(axis=0)]


# --- base optimizers: step(phi, g) returns the new weights -------------------------------------------------------


class SGD:
    """v ← μ v + (1 − τ) (g + λ φ), the first v without dampening; φ ← φ − η (v, or g + λ φ + μ v if Nesterov)."""

    def __init__(
        self,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        self.lr, self.momentum, self.dampening = lr, momentum, dampening
        self.weight_decay, self.nesterov = weight_decay, nesterov
        self.v: Weights | None = None

    def step(self, phi: Weights, g: Weights) -> Weights:
        d = [gi + self.weight_decay * w for gi, w in zip(g, phi, strict=True)]
        if self.momentum:
            if self.v is None:
                self.v = [di.copy() for di in d]
            else:
                self.v = [self.momentum * v + (1 - self.dampening) * di for v, di in zip(self.v, d, strict=True)]
            d = [di + self.momentum * v for di, v in zip(d, self.v, strict=True)] if self.nesterov else self.v
        return [w - self.lr * di for w, di in zip(phi, d, strict=True)]


class Adam:
    """Adam (Kingma & Ba), or AdamW with `decoupled` weight decay (Loshchilov & Hutter)."""

    def __init__(self, lr: float, weight_decay: float = 0.0, decoupled: bool = False) -> None:
        self.lr, self.weight_decay, self.decoupled = lr, weight_decay, decoupled
        self.m: Weights | None = None
        self.v: Weights | None = None
        self.t = 0

    def step(self, phi: Weights, g: Weights) -> Weights:
        beta1, beta2, eps = 0.9, 0.999, 1e-8
        if self.decoupled:
            phi = [w * (1 - self.lr * self.weight_decay) for w in phi]
        else:
            g = [gi + self.weight_decay * w for gi, w in zip(g, phi, strict=True)]
        if self.m is None or self.v is None:
            self.m, self.v = [np.zeros_like(w) for w in phi], [np.zeros_like(w) for w in phi]
        self.t += 1
        self.m = [beta1 * m + (1 - beta1) * gi for m, gi in zip(self.m, g, strict=True)]
        self.v = [beta2 * v + (1 - beta2) * gi**2 for v, gi in zip(self.v, g, strict=True)]
        m_hat = [m / (1 - beta1**self.t) for m in self.m]
        v_hat = [v / (1 - beta2**self.t) for v in self.v]
        return [w - self.lr * m / (np.sqrt(v) + eps) for w, m, v in zip(phi, m_hat, v_hat, strict=True)]


Base = SGD | Adam


# --- perturbations: epsilon(phi, g), with one rho for each tensor ------------------------------------------------


def norm(tensors: Weights) -> float:
    return float(np.sqrt(sum((t**2).sum() for t in tensors)))


class Euclidean:
    """Eq. 3: epsilon = rho g / ‖g‖."""

    def __init__(self, rho: float | Sequence[float]) -> None:
        self.rho = rho

    def __call__(self, phi: Weights, g: Weights) -> Weights:
        length = norm(g)
        return [rho * gi / length for rho, gi in zip(_each(self.rho, phi), g, strict=True)]


class Adaptive:
    """Eq. 4: epsilon = rho T²g / ‖T g‖, T = |phi| + eta; T = 1 for tensors that are not scaled."""

    def __init__(self, rho: float | Sequence[float], eta: float, scaled: Sequence[bool] | None = None) -> None:
        self.rho, self.eta, self.scaled = rho, eta, scaled

    def __call__(self, phi: Weights, g: Weights) -> Weights:
        scaled = [True] * len(phi) if self.scaled is None else self.scaled
        t = [np.abs(w) + self.eta if s else np.ones_like(w) for w, s in zip(phi, scaled, strict=True)]
        length = norm([ti * gi for ti, gi in zip(t, g, strict=True)])
        return [rho * ti**2 * gi / length for rho, ti, gi in zip(_each(self.rho, phi), t, g, strict=True)]


def _each(value: float | Sequence[float], phi: Weights) -> list[float]:
    return [float(value)] * len(phi) if isinstance(value, (int, float)) else [float(v) for v in value]


def plus(a: Weights, b: Weights) -> Weights:
    return [x + y for x, y in zip(a, b, strict=True)]


def minus(a: Weights, b: Weights) -> Weights:
    return [x - y for x, y in zip(a, b, strict=True)]


# --- algorithms: each has step(phi, minibatch) -> phi of the next step -------------------------------------------


class SAM:
    """Eq. 2 and 3."""

    def __init__(self, gradient: Gradient, base: Base, epsilon: Any) -> None:
        self.gradient, self.base, self.epsilon = gradient, base, epsilon

    def step(self, phi: Weights, d: Any) -> Weights:
        epsilon = self.epsilon(phi, self.gradient(phi, d))
        return self.base.step(phi, self.gradient(plus(phi, epsilon), d))


class Multistep:
    """Section 4.1 (last gradient) and appendix A.8 (mean of the gradients)."""

    def __init__(self, gradient: Gradient, base: Base, epsilon: Any, k: int, mean: bool) -> None:
        self.gradient, self.base, self.epsilon, self.k, self.mean = gradient, base, epsilon, k, mean

    def step(self, phi: Weights, d: Any) -> Weights:
        phi_p, gathered = phi, []
        for _ in range(self.k):
            phi_p = plus(phi_p, self.epsilon(phi_p, self.gradient(phi_p, d)))
            gathered.append(self.gradient(phi_p, d))
        g = [sum(gs) / self.k for gs in zip(*gathered, strict=True)] if self.mean else gathered[-1]
        return self.base.step(phi, g)


class Lookahead:
    """Algorithm 2 around any inner algorithm; the caller gives one minibatch a step, and `slow` holds φ_{t-1}."""

    def __init__(self, inner: Any, k: int, alpha: float | Sequence[float]) -> None:
        self.inner, self.k, self.alpha = inner, k, alpha
        self.i = 0
        self.slow: Weights = []

    def step(self, phi: Weights, d: Any) -> Weights:
        if self.i == 0:
            self.slow = [w.copy() for w in phi]  # line 2
        phi = self.inner.step(phi, d)  # lines 4 to 6
        self.i += 1
        if self.i == self.k:
            self.i = 0
            alphas = _each(self.alpha, phi)
            phi = [w + a * (v - w) for a, w, v in zip(alphas, self.slow, phi, strict=True)]  # line 8
            self.slow = phi
        return phi


class Plain:
    """The base optimizer by itself, as an inner algorithm."""

    def __init__(self, gradient: Gradient, base: Base) -> None:
        self.gradient, self.base = gradient, base

    def step(self, phi: Weights, d: Any) -> Weights:
        return self.base.step(phi, self.gradient(phi, d))


class Lookbehind:
    """Algorithm 1 to the letter: two gradients in each inner step. `minibatches` are d for all i, or one for each i."""

    def __init__(
        self, gradient: Gradient, base: Base, epsilon: Any, k: int, alpha: float | str | Sequence[float]
    ) -> None:
        self.gradient, self.base, self.epsilon, self.k, self.alpha = gradient, base, epsilon, k, alpha
        self.alpha_star: list[float] = []

    def step(self, phi: Weights, minibatches: Any, switching: bool = False) -> Weights:
        phi_i, phi_p = phi, phi  # lines 2 and 3
        first: Weights = []
        for i in range(1, self.k + 1):
            d = minibatches[i - 1] if switching else minibatches  # line 4
            epsilon = self.epsilon(phi_p, self.gradient(phi_p, d))  # line 6
            phi_p = plus(phi_p, epsilon)  # line 7
            phi_i = self.base.step(phi_i, self.gradient(phi_p, d))  # line 8
            if i == 1:
                first = phi_i
        self.alpha_star = self._alphas(minus(first, phi), minus(phi_i, phi))
        return [w + a * (v - w) for a, w, v in zip(self.alpha_star, phi, phi_i, strict=True)]  # line 10

    def _alphas(self, d_1: Weights, d_k: Weights) -> list[float]:
        if self.alpha == "adaptive":
            dot = sum((a * b).sum() for a, b in zip(d_1, d_k, strict=True))
            return [(float(dot) / (norm(d_1) * norm(d_k)) + 1) / 2] * len(d_1)  # eq. 6 and 7
        if self.alpha == "adaptive_per_tensor":
            return [(float((a * b).sum()) / (norm([a]) * norm([b])) + 1) / 2 for a, b in zip(d_1, d_k, strict=True)]
        assert not isinstance(self.alpha, str)
        return _each(self.alpha, d_1)


class CheapLookbehind(Lookbehind):
    """The same with k + 1 gradients: line 8's at φ'_i is line 6's of the next inner step on the same minibatch."""

    def step(self, phi: Weights, minibatches: Any, switching: bool = False) -> Weights:
        assert not switching
        phi_i, phi_p, first = phi, phi, []
        g = self.gradient(phi_p, minibatches)
        for i in range(1, self.k + 1):
            phi_p = plus(phi_p, self.epsilon(phi_p, g))
            g = self.gradient(phi_p, minibatches)
            phi_i = self.base.step(phi_i, g)
            if i == 1:
                first = phi_i
        self.alpha_star = self._alphas(minus(first, phi), minus(phi_i, phi))
        return [w + a * (v - w) for a, w, v in zip(self.alpha_star, phi, phi_i, strict=True)]
