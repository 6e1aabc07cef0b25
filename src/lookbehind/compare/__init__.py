"""``lookbehind compare``: what SGD and the sharpness-aware optimizers do on real data, at equal cost too."""

from lookbehind.compare.runs import METHODS, Run, plan
from lookbehind.compare.store import Store
from lookbehind.compare.work import work

__all__ = ["METHODS", "Run", "Store", "plan", "work"]
