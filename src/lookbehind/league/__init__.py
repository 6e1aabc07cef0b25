"""The league: every method of the family and its rivals, at equal budgets of sample gradients, tuned alike."""

from lookbehind.league import items, rivals
from lookbehind.league.study import study

__all__ = ["items", "rivals", "study"]
