"""Algorithms 3 and 4 in NumPy float64, with first and second derivatives written by hand (Pearlmutter's R operator).

The model is logits = B tanh(A x), weights are a list [A, B]. Nothing here is differentiated by a library.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Weights = list[Array]


def heads(z: Array, labels: Array, ways: int) -> tuple[Array, Array]:
    """Softmax over each image's own head and its one-hot label there; zeros elsewhere."""
    p, y = np.zeros_like(z), np.zeros_like(z)
    for i, label in enumerate(labels):
        own = slice(label // ways * ways, (label // ways + 1) * ways)
        e = np.exp(z[i, own] - z[i, own].max())
        p[i, own] = e / e.sum()
        y[i, label] = 1.0
    return p, y


def gradient(w: Weights, x: Array, labels: Array, ways: int) -> Weights:
    """The gradient of the mean loss."""
    a, b = w
    h = np.tanh(x @ a.T)
    p, y = heads(h @ b.T, labels, ways)
    dz = (p - y) / len(x)
    da = (dz @ b) * (1 - h**2)
    return [da.T @ x, dz.T @ h]


def hessian_vector(w: Weights, v: Weights, x: Array, labels: Array, ways: int) -> Weights:
    """The Hessian of the mean loss times v."""
    (a, b), (va, vb) = w, v
    h = np.tanh(x @ a.T)
    r_h = (1 - h**2) * (x @ va.T)
    r_z = h @ vb.T + r_h @ b.T
    p, y = heads(h @ b.T, labels, ways)
    r_p = p * (r_z - (p * r_z).sum(1, keepdims=True))
    dz, r_dz = (p - y) / len(x), r_p / len(x)
    r_da = (dz @ vb + r_dz @ b) * (1 - h**2) + (dz @ b) * (-2 * h * r_h)
    return [r_da.T @ x, r_dz.T @ h + dz.T @ r_h]


def plus(w: Weights, d: Weights, factor: float) -> Weights:
    return [p + factor * q for p, q in zip(w, d, strict=True)]


def length(w: Weights) -> float:
    return float(np.sqrt(sum((p**2).sum() for p in w)))


def clip(w: Weights, bound: float) -> Weights:
    return [p * min(1.0, bound / (length(w) + 1e-6)) for p in w]


@dataclass
class Settings:
    """What both algorithms take."""

    ways: int
    eta: float
    k: int
    clamp: float
    clip: float
    second: bool = True

    def inner(self, g: Weights) -> tuple[Weights, Weights]:
        """The clamped gradient, and where clamping lets derivatives pass."""
        return [np.clip(p, -self.clamp, self.clamp) for p in g], [(np.abs(p) <= self.clamp) * 1.0 for p in g]


def pieces(x: Array, labels: Array, k: int) -> list[tuple[Array, Array]]:
    """Pieces of ⌈n / k⌉ images."""
    size = -(-len(x) // k)
    return [(x[i : i + size], labels[i : i + size]) for i in range(0, len(x), size)]


def lookahead_c_maml(phi: Weights, b: tuple[Array, Array], b_m: tuple[Array, Array], s: Settings, meta: str) -> Weights:
    """One meta-update of algorithm 3."""
    steps, points, fast = [], [], phi
    for c in pieces(*b, s.k):
        g, mask = s.inner(gradient(fast, *c, s.ways))
        steps.append((fast, c, mask))
        fast = plus(fast, g, -s.eta)
        points.append(fast)
    if meta == "slow":
        u = gradient(phi, *b_m, s.ways)
        return plus(phi, clip(u, s.clip), -s.eta)
    weight = [1 / len(points) if meta == "mean" else float(i == len(points) - 1) for i in range(len(points))]
    u = [np.zeros_like(p) for p in phi]
    for (at, c, mask), point, share in reversed(list(zip(steps, points, weight, strict=True))):
        u = plus(u, gradient(point, *b_m, s.ways), share)
        if s.second:
            u = plus(u, hessian_vector(at, [m * q for m, q in zip(mask, u, strict=True)], *c, s.ways), -s.eta)
    return plus(phi, clip(u, s.clip), -s.eta)


def lookbehind_c_maml(
    phi: Weights,
    used: list[tuple[Array, Array]],
    b_m: tuple[Array, Array],
    s: Settings,
    rho: float,
    alpha: float,
    ascent: str,
    point: str,
) -> Weights:
    """One meta-update of algorithm 4; ``used`` are the b[k']."""
    steps, fast, behind = [], phi, phi
    for c in used:
        start = {"continue": behind, "restart": phi, "fast": fast}[ascent]
        g = gradient(start, *c, s.ways)
        behind = plus(start, g, rho / length(g))
        g, mask = s.inner(gradient(behind, *c, s.ways))
        steps.append((behind, c, mask))
        fast = plus(fast, g, -s.eta)

    def transposed(u: Weights) -> Weights:
        """(∂θ̂/∂φ)ᵀ u, for θ̂ = φ + α (θ_k − φ)."""
        through = u
        for at, c, mask in reversed(steps if s.second else []):
            by = through if ascent == "fast" else u  # elsewhere all perturbed points move with φ itself
            h = hessian_vector(at, [m * q for m, q in zip(mask, by, strict=True)], *c, s.ways)
            through = plus(through, h, -s.eta)
        return plus([(1 - alpha) * q for q in u], through, alpha)

    hat = plus([(1 - alpha) * p for p in phi], fast, alpha)
    d = transposed(gradient(hat, *b_m, s.ways))
    if point == "fast":
        u = transposed(gradient(plus(hat, d, rho / length(d)), *b_m, s.ways))
    else:
        u = gradient(plus(phi, d, rho / length(d)), *b_m, s.ways)
    return plus(phi, clip(u, s.clip), -s.eta)
