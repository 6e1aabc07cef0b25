"""What makes a failed step as if it had not been."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import torch

from lookbehind._random import random_state, set_random_state
from lookbehind._tensors import copy_

if TYPE_CHECKING:
    from lookbehind.optim._wrapper import Wrapper

P = ParamSpec("P")
R = TypeVar("R")


def without_grad(function: Callable[P, R]) -> Callable[P, R]:
    """Do what ``torch.no_grad`` does, and restore the mode also if Ctrl-C arrives while it is left.

    Ctrl-C can end ``no_grad.__exit__`` before it has done anything, and the process is then left without gradients. A
    call of a C function in a ``finally`` cannot be ended so.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        enabled = torch.is_grad_enabled()
        try:
            torch._C._set_grad_enabled(False)
            return function(*args, **kwargs)
        finally:
            torch._C._set_grad_enabled(enabled)

    return wrapped


class Snapshot:
    """What a step that fails puts back: weights, running statistics, counters and, where full, the base's state."""

    def __init__(self, optimizer: Wrapper, *, full: bool) -> None:
        self.optimizer = optimizer
        self.weights = optimizer._weights
        self.copies = optimizer._like("before", self.weights)
        copy_(self.copies, self.weights)
        self.statistics = optimizer._statistics()
        self.kept = [buffer.clone() for buffer in self.statistics]
        self.entries = [{key: group[key] for key in optimizer._entries} for group in optimizer.param_groups]
        self.base = copy.deepcopy(optimizer.base.state_dict()) if full else None
        self.rng = random_state(p.device for p in self.weights) if optimizer.rollback == "full" else None

    @without_grad
    def restore(self) -> None:
        """Put everything back."""
        if self.optimizer._places is not None:
            self.optimizer._places.restore()
            self.optimizer._places = None
        copy_(self.weights, self.copies)
        copy_(self.statistics, self.kept)
        if self.base is not None:
            self.optimizer.base.load_state_dict(self.base)
        for group, entries in zip(self.optimizer.param_groups, self.entries, strict=True):
            group.update(entries)
        if self.rng is not None:
            set_random_state(self.rng)


def uninterrupted(action: Callable[[], None]) -> None:
    """Run an action to its end, from its start again whenever Ctrl-C arrives; then let Ctrl-C have its way."""
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            action()
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt
