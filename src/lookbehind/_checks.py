"""Checks of arguments: each returns the value, or says which value is wrong and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral, Real
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")


def shown(value: object) -> str:
    """Return a value as a message shows it: never longer than a line, whatever it is."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}" if value.numel() != 1 else f"a tensor ({value.dtype})"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, (list, tuple, set, frozenset, dict)) and len(value) > 3:
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, (str, int, float, bool, type(None))) and len(repr(value)) <= 60:
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(map(shown, value))})"[:80]
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text and text[:1] != "<" else f"a {type(value).__name__}"


def number(name: str, value: object) -> float:
    """Return a real number as a float. A tensor is none: reading it may wait for a device."""
    if type(value) is float:  # the usual one, at once: steps check too
        return value
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {shown(value)} ({type(value).__name__}); a number is needed")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is too large; a number that fits into a float is needed") from None


def nonnegative(name: str, value: object) -> float:
    """Return a finite number ≥ 0."""
    checked = number(name, value)
    if not (math.isfinite(checked) and checked >= 0):
        raise ValueError(f"{name} is {shown(value)}; a finite number of at least 0 is needed")
    return checked


def fraction(name: str, value: object) -> float:
    """Return a number in (0, 1]."""
    checked = number(name, value)
    if not 0 < checked <= 1:
        raise ValueError(f"{name} is {shown(value)}; a number greater than 0 and at most 1 is needed")
    return checked


def count(name: str, value: object, least: int = 1) -> int:
    """Return an integer of at least 1, or another least value."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(
            f"{name} is {shown(value)} ({type(value).__name__}); a whole number of at least {least} is needed"
        )
    if value < least:
        raise ValueError(f"{name} is {shown(value)}; a whole number of at least {least} is needed")
    return int(value)


def choice(name: str, value: T, allowed: Sequence[T], otherwise: str = "") -> T:
    """Return one of the allowed values."""
    if not any(value is one or (type(value) is type(one) and value == one) for one in allowed):
        words = ", ".join([*map(repr, allowed), *([otherwise] if otherwise else [])])
        raise ValueError(f"{name} is {shown(value)}; allowed are {words}")
    return value


def repeatable(name: str, minibatches: Iterable[T]) -> Iterable[T]:
    """Return minibatches that are not gone after one pass."""
    if isinstance(minibatches, Iterator):
        raise ValueError(f"{name} is an iterator, which can be gone through only once; pass a list or a loader")
    return minibatches
