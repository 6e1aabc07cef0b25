"""Where weights are in memory: closures and callers find them where they were, whatever the base optimizer does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lookbehind import Lookbehind
from lookbehind.optim._memory import Places
from tests.conformance.rows import Row, Task, every_base, every_row, same


def places(weights: list[Tensor]) -> list[int]:
    return [p.data_ptr() for p in weights]


@every_row
@every_base
def test_closures_and_callers_find_the_weights_where_they_were(row: Row, base) -> None:
    task = Task()
    parameters = list(task.net.parameters())
    optimizer = row.make(base(parameters))
    where = places(parameters)
    seen: list[list[int]] = []

    def closure() -> Tensor:
        seen.append(places(parameters))
        return task.closure()()

    for _ in range(3):
        optimizer.step(closure)
        assert places(parameters) == where
    assert seen == [where] * len(seen)


class Moving(SGD):
    """Moves weights by new tensors, as some optimizers do."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.data = p.data - group["lr"] * p.grad


class Flat(SGD):
    """Knows its weights by another name: a vector in whose memory all of them are."""

    def __init__(self, parameters: Any, lr: float) -> None:
        parameters = list(parameters)
        with torch.no_grad():
            self.vector = torch.cat([p.flatten() for p in parameters])
            for p, part in zip(parameters, self.vector.split([p.numel() for p in parameters]), strict=True):
                p.data = part.view_as(p)
        super().__init__(parameters, lr)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        gradient = torch.cat([p.grad.flatten() for group in self.param_groups for p in group["params"]])
        self.vector.sub_(self.param_groups[0]["lr"] * gradient)


def trained(make: Callable[[Optimizer], Optimizer], base: type[Optimizer]) -> list[Tensor]:
    task = Task()
    optimizer = make(base(task.net.parameters(), lr=0.1))  # type: ignore[call-arg]
    for i in range(4):
        optimizer.step(task.closure(i))
    return task.weights()


@pytest.mark.parametrize("base", [Moving, Flat])
@every_row
def test_a_base_may_know_or_place_weights_otherwise(row: Row, base: type[Optimizer]) -> None:
    for found, expected in zip(trained(row.make, base), trained(row.make, SGD), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


class Kind(nn.Parameter):
    """A kind of parameter that may keep its numbers elsewhere than a plain one does."""


def test_only_memory_of_its_own_is_left() -> None:
    vector = torch.arange(6.0)
    plain, half = nn.Parameter(torch.zeros(2)), nn.Parameter(vector[:3])
    kind = Kind(torch.zeros(2))
    weights: list[Tensor] = [plain, half, kind]
    others = [torch.ones_like(w, requires_grad=False) for w in weights]
    where, there = places(weights), places(others)
    with torch.no_grad(), Places(weights, others).changed():
        assert places(weights) == [there[0], *where[1:]]
        assert [w.sum().item() for w in weights] == [2, 3, 2]
        for w in weights:
            w += 1
    assert places(weights) == where
    assert [w.tolist() for w in weights] == [[0, 0], [0, 1, 2], [0, 0]]
    assert [o.tolist() for o in others] == [[2, 2], [2, 2, 2], [2, 2]]


@pytest.mark.parametrize("at", [1, 2])
def test_after_a_failure_weights_are_where_they_were(at: int) -> None:
    task = Task()
    parameters = list(task.net.parameters())
    optimizer = Lookbehind(SGD(parameters, lr=0.1), k=2)
    optimizer.step(task.closure())
    where, before, count = places(parameters), task.weights(), 0
    original = Places.changed

    def interrupted(self: Places) -> Any:
        nonlocal count
        count += 1
        if count == at:
            self.moved[0][0].data = self.moved[0][2]  # one is away, and Ctrl-C arrives before the others are
            raise KeyboardInterrupt
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Places, "changed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            optimizer.step(task.closure(1))
    assert places(parameters) == where
    assert same(task.weights(), before)
