"""Tensors of the shapes of the parameters: scratch for one step, or saved in the base optimizer's state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Entries = dict[Any, dict[str, Tensor]]


class Buffers:
    """Per-parameter tensors of one optimizer wrapper.

    Saved buffers are entries of ``base.state[p]`` under a prefix, so that every way of saving a state finds them. Bases
    such as Adam set their state up where it is empty, so a base must not see them: ``taken`` removes them meanwhile.

    Args:
        base: the optimizer in whose state the saved buffers are.
        prefix: what their names begin with, such as "lookahead_".

    """

    def __init__(self, base: Optimizer, prefix: str) -> None:
        self.base = base
        self.prefix = prefix
        self.names: set[str] = set()  # of the saved tensors in the base's state
        self._scratch: dict[str, tuple[list[Tensor], list[Tensor]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_scratch": {}}

    def scratch(self, name: str, params: Sequence[Tensor]) -> list[Tensor]:
        """Return tensors to write to, one for each parameter. They are kept from step to step, and not saved."""
        known, tensors = self._scratch.get(name, ([], []))
        if not (len(known) == len(params) and all(map(is_, known, params)) and all(map(_fits, tensors, params))):
            held = {p: t for p, t in zip(known, tensors, strict=True) if _fits(t, p)}
            tensors = [held[p] if p in held else torch.empty_like(p, requires_grad=False) for p in params]
            self._scratch[name] = list(params), tensors
        return tensors

    def saved(
        self, name: str, params: Sequence[Tensor], make: Callable[[Tensor], Tensor] = torch.zeros_like
    ) -> list[Tensor]:
        """Return saved tensors, one for each parameter, with its dtype and device. Make those that are missing."""
        self.names.add(self.prefix + name)
        return [self._one(name, p, make) for p in params]

    def _one(self, name: str, p: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
        held = self.get(name, p)
        if held is not None and _fits(held, p):
            return held
        made = make(p.detach()) if held is None else held.to(p.device, p.dtype)  # it was moved or cast since
        self.base.state.setdefault(p, {})[self.prefix + name] = made
        return made

    def get(self, name: str, p: Tensor) -> Tensor | None:
        """Return a saved tensor of one parameter; None if there is none, or the parameter has another shape since."""
        held: Tensor | None = self.base.state.get(p, {}).get(self.prefix + name)
        return held if held is None or held.shape == p.shape else None

    def drop(self, name: str, params: Sequence[Tensor]) -> None:
        """Forget a saved tensor of some parameters."""
        for p in params:
            self.base.state.get(p, {}).pop(self.prefix + name, None)

    def take(self, taken: Entries | None = None) -> Entries:
        """Remove the saved buffers from the base's state, and return them for ``put``. Ctrl-C loses none."""
        taken = {} if taken is None else taken
        for p, entries in self.base.state.items() if self.names else ():
            if isinstance(entries, dict) and not self.names.isdisjoint(entries):
                taken[p] = {name: entries[name] for name in self.names & entries.keys()}
                for name in taken[p]:
                    del entries[name]
        for p in taken:
            if not self.base.state[p]:
                del self.base.state[p]
        return taken

    def put(self, taken: Entries) -> None:
        """Put saved buffers back."""
        for p, entries in taken.items():
            self.names |= entries.keys()
            self.base.state.setdefault(p, {}).update(entries)


def split(state: Mapping[Any, Any], prefix: str) -> tuple[Entries, dict[Any, Any]]:
    """Return the entries of a state under a prefix, and the rest of it. Parameters without any are left out of each."""
    own: Entries = {}
    rest: dict[Any, Any] = {}
    for key, entries in state.items():
        if not isinstance(entries, dict):
            rest[key] = entries
            continue
        mine = {name: value for name, value in entries.items() if isinstance(name, str) and name.startswith(prefix)}
        if mine:
            own[key] = mine
        if len(mine) < len(entries):
            rest[key] = {name: value for name, value in entries.items() if name not in mine} if mine else entries
    return own, rest


def _fits(t: Tensor, p: Tensor) -> bool:
    return t.dtype is p.dtype and t.shape == p.shape and t.device == p.device
