"""Lookup of results for reports."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol

from lookbehind.lab.result import Result
from lookbehind.lab.run import Measurement, Run


class Results(Protocol):
    """Source of results: a ``Store``, or anything that answers these three."""

    def result(self, run: Run) -> Result | None:
        """Return what a finished or diverged run gave."""

    def measured(self, run: Run, measurement: Measurement) -> Mapping[str, Any] | None:
        """Return what was measured on it."""

    def failure(self, run: Run) -> str | None:
        """Return what went wrong when it was last tried."""


class Remembered:
    """Results as they are now: each is looked up once."""

    def __init__(self, results: Results) -> None:
        self.result = cache(results.result)
        self.measured = cache(results.measured)
        self.failure = cache(results.failure)
        self.values: dict[Any, Any] = {}  # of cells that have been evaluated


def remembered(results: Results) -> Remembered:
    """Return results that are looked up once, if they are not such already."""
    return results if isinstance(results, Remembered) else Remembered(results)
