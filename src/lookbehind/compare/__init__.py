"""``lookbehind compare``: what SGD and the sharpness-aware optimizers do on real data, at equal cost too."""

from lookbehind.compare.runs import METHODS, Run, plan, result_of

__all__ = ["METHODS", "Run", "plan", "result_of"]
