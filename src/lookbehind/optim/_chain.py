"""Optimizers around optimizers: which wrapper has put what into a base's groups, and how it is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.optim import Optimizer


def is_method(key: str) -> bool:
    """Return whether a key of a group names a method."""
    return key == "method" or key.endswith("_method")


def chain(optimizer: Optimizer | None) -> Iterator[Optimizer]:
    """Yield an optimizer, its base, the base's base, …."""
    while isinstance(optimizer, Optimizer):
        yield optimizer
        optimizer = optimizer.__dict__.get("base")


def wrappers_of(base: Optimizer) -> Iterator[Any]:
    """Yield the wrapper around an optimizer, the wrapper around that one, …."""
    outer = base.__dict__.get("_wrapped_by")
    while outer is not None:
        yield outer
        outer = outer.__dict__.get("_wrapped_by")


def entries_of(base: Optimizer) -> set[str]:
    """Return the keys that wrappers inside have put into the groups."""
    return {key for o in chain(base) for key in o.__dict__.get("_entries", ())}


def given_to(wrapper: Any, index: int) -> dict[str, Any]:
    """Return the entries that a group had before a wrapper added its own."""
    given: list[dict[str, Any]] = wrapper._given
    return given[index] if index < len(given) else {}


def given_by_user(base: Optimizer) -> list[set[str]]:
    """Return the keys of each group, without those that wrappers around this base have put there.

    A copy of a base, and one that loaded the state of a wrapper, have entries of a wrapper that is not theirs. Such
    groups are known by the name of a method, and what they hold is nobody's wish.
    """
    inside = entries_of(base)
    foreign = [any(is_method(key) and key not in inside for key in group) for group in base.param_groups]
    if "_wrapped_by" not in base.__dict__ and any(foreign):
        return [set() if strange else set(group) for group, strange in zip(base.param_groups, foreign, strict=True)]
    given = [set(group) for group in base.param_groups]
    for outer in wrappers_of(base):
        for index, keys in enumerate(given):
            keys -= outer._entries.keys() - given_to(outer, index).keys()
    return given


def unwrap(base: Optimizer) -> None:
    """Take back what earlier wrappers have put into the groups and the state of a base, as when a cell is run again."""
    outer = base.__dict__.pop("_wrapped_by", None)
    if outer is None:
        inside = entries_of(base)
        for group in base.param_groups:
            for key in [key for key in group if is_method(key) and key not in inside]:
                del group[key]
        return
    unwrap(outer)
    outer._buffers.take()
    for index, group in enumerate(base.param_groups):
        for key in outer._entries:
            group.pop(key, None)
        group.update(given_to(outer, index))


def free_key(name: str, owner: str, taken: set[str]) -> str:
    """Return a name that is not taken: with the owner's name before it, as often as needed."""
    key = name
    while key in taken:
        key = f"{owner}_{key}"
    return key
