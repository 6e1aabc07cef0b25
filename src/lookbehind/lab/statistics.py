"""Mean, spread, and paired differences over seeds with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True)
class Difference:
    """A paired difference over seeds, with its 95 % t interval (absent for a single seed)."""

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def shows(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def __str__(self) -> str:
        interval = "" if self.low is None else f" [{self.low:+.2f}, {self.high:+.2f}]"
        return f"{self.mean:+.2f}{interval}"


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
        A ``Difference``; without interval if there is one pair.

    Raises:
        ValueError: if the two are of different lengths or empty.

    Example:
        >>> print(paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]))
        +2.00 [-0.48, +4.48]

    """
    if not values or len(values) != len(others):
        raise ValueError(f"there are {len(values)} and {len(others)} values; pairs, at least one, are needed")
    differences = [a - b for a, b in zip(values, others, strict=True)]
    center, spread = mean(differences), std(differences)
    if spread is None:
        return Difference(center, None, None, len(differences))
    from scipy import stats

    n = len(differences)
    margin = float(stats.t.ppf(1 - 0.025 / comparisons, n - 1)) * spread / sqrt(n)
    return Difference(center, center - margin, center + margin, n)
