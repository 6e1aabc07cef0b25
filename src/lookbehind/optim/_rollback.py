"""Restore the state from before a step that failed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from lookbehind._random import random_state, set_random_state
from lookbehind._tensors import copy_

P = ParamSpec("P")
R = TypeVar("R")


def without_grad(function: Callable[P, R]) -> Callable[P, R]:
    """Do what ``torch.no_grad`` does, outside inference mode, and restore the mode also if Ctrl-C arrives at the end.

    Ctrl-C can end ``no_grad.__exit__`` before it has done anything, and the process is then left without gradients. A
    call of a C function in a ``finally`` cannot be ended so. Tensors that are made in inference mode could not be
    written to later.
    """

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False):
                return wrapped(*args, **kwargs)
        enabled = torch.is_grad_enabled()
        try:
            torch._C._set_grad_enabled(False)
            return function(*args, **kwargs)
        finally:
            torch._C._set_grad_enabled(enabled)

    return wrapped


class Rollback:
    """Restore the state from before a failed step.

    Args:
        params: the parameters.
        start: copies of them.
        statistics: running statistics, if a model was given.
        groups: the parameter groups.
        keys: the entries of the groups that are put back. All, if the base's state is.
        base: the optimizer whose state is put back as well, or None.
        random: whether torch's random state is put back.

    """

    committed = False

    def __init__(
        self,
        params: list[Tensor],
        start: list[Tensor],
        statistics: list[Tensor],
        groups: list[dict[str, Any]],
        keys: Collection[str],
        *,
        base: Optimizer | None,
        random: bool,
    ) -> None:
        self.params, self.start, self.statistics = params, start, statistics
        self.kept = [buffer.clone() for buffer in statistics]
        self.groups = groups
        self.entries: list[Callable[[], dict[str, Any]]]
        if base is None:  # numbers
            self.entries = [partial(dict, {key: group[key] for key in keys}) for group in groups]
        else:
            self.entries = [_remember({k: v for k, v in group.items() if k != "params"}) for group in groups]
        self.states = [(o, _remember_state(o.state)) for o in stateful(base)] if base is not None else []
        self.random = random_state(p.device for p in params) if random else None

    @without_grad
    def restore(self) -> None:
        """Put everything back, unless the step is complete."""
        if self.committed:
            return
        copy_(self.params, self.start)
        copy_(self.statistics, self.kept)
        for optimizer, entries in self.states:
            state = optimizer.state
            for key in [key for key in state if key not in entries]:
                del state[key]
            for key, back in entries.items():
                state[key] = back()
        for group, back in zip(self.groups, self.entries, strict=True):
            values = back()
            if self.states:
                for name in group.keys() - values.keys() - {"params"}:
                    del group[name]
            group.update(values)
        if self.random is not None:
            set_random_state(self.random)


def stateful(optimizer: Optimizer) -> Iterator[Optimizer]:
    """Yield an optimizer and those inside it, such as that of a ``ZeroRedundancyOptimizer``."""
    seen: set[int] = set()
    inside: list[Any] = [optimizer]
    while inside:
        found = inside.pop()
        if isinstance(found, Optimizer) and id(found) not in seen:
            seen.add(id(found))
            yield found
            inside += [vars(found).get(name) for name in ("base", "optim", "optimizer", "base_optimizer")]


def _remember_state(state: Any) -> dict[Any, Callable[[], Any]]:
    return {key: _remember(entry) for key, entry in state.items()}


def _remember(value: Any) -> Callable[[], Any]:
    """Return a function that gives a value back as it is now. Tensors keep their identity, dtype and device."""
    if isinstance(value, (int, float, str, bool, type(None))):
        return lambda: value
    if isinstance(value, Tensor):
        kept = value.detach().clone()
        return lambda: value.copy_(kept)
    if isinstance(value, dict):
        entries = {name: _remember(entry) for name, entry in value.items()}
        return lambda: _refilled(value, {name: back() for name, back in entries.items()})
    if type(value) in (list, tuple):
        items = [_remember(item) for item in value]
        return lambda: type(value)(back() for back in items)
    other = copy.deepcopy(value)
    return lambda: other


def _refilled(value: dict[Any, Any], entries: dict[Any, Any]) -> dict[Any, Any]:
    """Put entries into the dict that held them, of whatever class it is."""
    value.clear()
    value.update(entries)
    return value


def uninterrupted(action: Callable[[], None]) -> None:
    """Restart an action on KeyboardInterrupt until it completes, then raise the KeyboardInterrupt."""
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            action()
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt
