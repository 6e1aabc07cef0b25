"""Optimizers around optimizers: which wrapper has put what into a base's groups, and how it is taken back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch.optim import Optimizer


def is_method(key: str, value: object) -> bool:
    """Return whether an entry of a group is the name of a method, such as "SAM(...)", and no base's own."""
    return (key == "method" or key.endswith("_method")) and isinstance(value, str) and value.endswith(")")


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


def given(group: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return which entries of a wrapper a group had before it, with their values then.

    They lie in the group itself, as ``given_rho``: so copies and checkpoints of the base know them too.
    """
    return {key: group[f"given_{key}"] for key in keys if f"given_{key}" in group}


def with_given(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries with a note for each that it was given."""
    return {**entries, **{f"given_{key}": value for key, value in entries.items()}}


def own_keys(entries: Iterable[str]) -> set[str]:
    """Return all keys that a wrapper with these entries puts into a group."""
    return {key for name in entries for key in (name, f"given_{name}")}


def without(group: Mapping[str, Any], entries: Iterable[str]) -> dict[str, Any]:
    """Return a group without what a wrapper with these entries has put there."""
    own = own_keys(entries)
    return {key: value for key, value in group.items() if key not in own}


def given_by_user(base: Optimizer) -> list[dict[str, Any]]:
    """Return the entries of each group as they are without the wrappers around this base.

    A copy of a base, and one that loaded the state of a wrapper, have entries of a wrapper that is not theirs. Such
    groups are known by the name of a method, and hold what was given to them before it.
    """
    inside = entries_of(base)
    found: list[dict[str, Any]] = []
    for group in base.param_groups:
        own = dict(group)
        if "_wrapped_by" in base.__dict__:
            for outer in wrappers_of(base):
                own = without(own, outer._entries) | given(own, outer._entries)
        elif any(is_method(key, value) and key not in inside for key, value in group.items()):
            own = given(group, [key.removeprefix("given_") for key in group if key.startswith("given_")])
        found.append(own)
    return found


def unwrap(base: Optimizer) -> None:
    """Take back what earlier wrappers have put into the groups and the state of a base, as when a cell is run again."""
    outer = base.__dict__.pop("_wrapped_by", None)
    if outer is None:
        inside = entries_of(base)
        for group in base.param_groups:
            for key in [key for key, value in group.items() if is_method(key, value) and key not in inside]:
                del group[key]
        return
    unwrap(outer)
    outer._buffers.take()
    for group in base.param_groups:
        before = given(group, outer._entries)
        for key in own_keys(outer._entries):
            group.pop(key, None)
        group.update(before)


def free_key(name: str, owner: str, taken: set[str]) -> str:
    """Return a name that is not taken: with the owner's name before it, as often as needed."""
    key = name
    while key in taken:
        key = f"{owner}_{key}"
    return key
