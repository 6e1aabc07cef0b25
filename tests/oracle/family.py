"""What the oracles of the family share: sums of weights, by hand."""

from __future__ import annotations

from tests.oracle.algorithms import Weights, norm


def mixed(a: float, x: Weights, b: float, y: Weights) -> Weights:
    return [a * xi + b * yi for xi, yi in zip(x, y, strict=True)]


def dot(x: Weights, y: Weights) -> float:
    return float(sum((xi * yi).sum() for xi, yi in zip(x, y, strict=True)))


def unit(x: Weights) -> Weights:
    return [xi / norm(x) for xi in x]
