"""Where weights are in memory: closures and callers find them where they were, whatever the base optimizer does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from tests.conformance.rows import Row, Task, every_base, every_row


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


class Keeping(SGD):
    """Keeps the tensors in which its weights are, as kernels of one's own do."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, lr)
        self.kept = [p.data for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for kept, p in zip(self.kept, self.param_groups[0]["params"], strict=True):
            kept.sub_(self.param_groups[0]["lr"] * p.grad)


@pytest.mark.parametrize("base", [Moving, Flat, Keeping])
@every_row
def test_a_base_may_know_or_place_weights_otherwise(row: Row, base: type[Optimizer]) -> None:
    for found, expected in zip(trained(row.make, base), trained(row.make, SGD), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
