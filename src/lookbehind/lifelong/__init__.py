"""Lifelong learning (section 4.5): streams of tasks, replay around any optimizer, Lookahead- and Lookbehind-C-MAML."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lookbehind.lifelong.heads import multihead_loss, own_head
    from lookbehind.lifelong.learner import Learner, Observed, task_accuracy
    from lookbehind.lifelong.learning import Learnt, accuracies, learn
    from lookbehind.lifelong.lookahead_maml import LookaheadCMAML
    from lookbehind.lifelong.lookbehind_maml import LookbehindCMAML
    from lookbehind.lifelong.memory import Reservoir
    from lookbehind.lifelong.metrics import average_accuracy, backward_transfer, forgetting
    from lookbehind.lifelong.replay import Replay
    from lookbehind.lifelong.stream import Task, TaskStream, split

__all__ = [
    "Learner",
    "Learnt",
    "LookaheadCMAML",
    "LookbehindCMAML",
    "Observed",
    "Replay",
    "Reservoir",
    "Task",
    "TaskStream",
    "accuracies",
    "average_accuracy",
    "backward_transfer",
    "forgetting",
    "learn",
    "multihead_loss",
    "own_head",
    "split",
    "task_accuracy",
]

# Each is imported when it is asked for: to list or to report what was learnt needs the scores, and no torch.
_MODULES = {
    "Learner": "learner",
    "Learnt": "learning",
    "LookaheadCMAML": "lookahead_maml",
    "LookbehindCMAML": "lookbehind_maml",
    "Observed": "learner",
    "Replay": "replay",
    "Reservoir": "memory",
    "Task": "stream",
    "TaskStream": "stream",
    "accuracies": "learning",
    "average_accuracy": "metrics",
    "backward_transfer": "metrics",
    "forgetting": "metrics",
    "learn": "learning",
    "multihead_loss": "heads",
    "own_head": "heads",
    "split": "stream",
    "task_accuracy": "learner",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"lookbehind.lifelong.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
