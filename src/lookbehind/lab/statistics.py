"""Mean, spread, and paired differences over seeds with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

FEWEST = 3  # seeds; of fewer there is no spread, no interval and no best


def shown(number: float, digits: int = 2, *, sign: bool = False) -> str:
    """Return a number as people read it: with a real minus sign, and none for zero.

    Example:
        >>> shown(-1.234), shown(-0.001), shown(0.5, sign=True), shown(12345.0, 0)
        ('−1.23', '0.00', '+0.50', '12,345')

    """
    text = f"{number:{'+' if sign else ''},.{digits}f}"
    return text.lstrip("+-") if not text.strip("+-0.,") else text.replace("-", "−")


@dataclass(frozen=True)
class Difference:
    """A paired difference over seeds, with its 95 % t interval (absent for fewer than three seeds)."""

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def shows(self) -> bool:
        """Return whether the interval excludes zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def text(self, digits: int = 2) -> str:
        """Return the difference and its interval."""
        if self.low is None or self.high is None:
            return shown(self.mean, digits, sign=True)
        low, high = (shown(end, digits, sign=True) for end in (self.low, self.high))
        return f"{shown(self.mean, digits, sign=True)} [{low}, {high}]"

    __str__ = text


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean."""
    return sum(values) / len(values)


def std(values: Sequence[float], ddof: int = 1) -> float | None:
    """Return the standard deviation with divisor n − ddof, or None if there are too few values for it.

    Example:
        >>> std([1.0, 2.0, 3.0]), std([1.0, 3.0], ddof=0), std([1.0])
        (1.0, 1.0, None)

    """
    if len(values) <= max(ddof, 1):  # one value spreads over nothing, whatever the divisor
        return None
    center = mean(values)
    return sqrt(sum((v - center) ** 2 for v in values) / (len(values) - ddof))


def paired(values: Sequence[float], others: Sequence[float], comparisons: int = 1) -> Difference:
    """Return the mean of the differences of pairs, and the 95 % interval by Student's t.

    With several comparisons each interval is wider (Bonferroni), so that all of them hold at 95 % together.

    Args:
        values: one number for each seed.
        others: the other method's numbers, of the same seeds in the same order.
        comparisons: how many such intervals are to hold together. Default 1.

    Returns:
        A ``Difference``; without interval if there are fewer than three pairs.

    Raises:
        ValueError: if the two are of different lengths or empty.

    Example:
        >>> print(paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]))
        +2.00 [−0.48, +4.48]

    """
    if not values or len(values) != len(others):
        raise ValueError(f"there are {len(values)} and {len(others)} values; pairs, at least one, are needed")
    differences = [a - b for a, b in zip(values, others, strict=True)]
    center, spread = mean(differences), std(differences)
    if spread is None or len(differences) < FEWEST:
        return Difference(center, None, None, len(differences))
    from scipy.special import stdtrit  # the quantiles of Student's t; to import scipy.stats takes most of a second

    n = len(differences)
    margin = float(stdtrit(n - 1, 1 - 0.025 / comparisons)) * spread / sqrt(n)
    return Difference(center, center - margin, center + margin, n)
