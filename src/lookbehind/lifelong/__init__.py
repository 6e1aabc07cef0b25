"""Lifelong learning (section 4.5): streams of tasks, replay around any optimizer, Lookahead- and Lookbehind-C-MAML."""

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
