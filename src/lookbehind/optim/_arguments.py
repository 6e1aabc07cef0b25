"""Checks of arguments: each returns the value, or says which value is wrong and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral, Real
from typing import TypeVar

T = TypeVar("T")


def number(name: str, value: object) -> float:
    """Return a real number as a float."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r} ({type(value).__name__}); a number is needed")
    return float(value)


def nonnegative(name: str, value: object) -> float:
    """Return a finite number ≥ 0."""
    checked = number(name, value)
    if not (math.isfinite(checked) and checked >= 0):
        raise ValueError(f"{name} is {value!r}; a finite number of at least 0 is needed")
    return checked


def fraction(name: str, value: object) -> float:
    """Return a number in (0, 1]."""
    checked = number(name, value)
    if not 0 < checked <= 1:
        raise ValueError(f"{name} is {value!r}; a number greater than 0 and at most 1 is needed")
    return checked


def count(name: str, value: object) -> int:
    """Return an integer ≥ 1."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r} ({type(value).__name__}); a whole number of at least 1 is needed")
    if value < 1:
        raise ValueError(f"{name} is {value!r}; a whole number of at least 1 is needed")
    return int(value)


def choice(name: str, value: str, allowed: Sequence[str]) -> str:
    """Return one of the allowed words."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; allowed are {', '.join(map(repr, allowed))}")
    return value


def repeatable(name: str, minibatches: Iterable[T]) -> Iterable[T]:
    """Return minibatches that are not gone after one pass."""
    if isinstance(minibatches, Iterator):
        raise ValueError(f"{name} is an iterator, which can be gone through only once; pass a list or a loader")
    return minibatches
