"""What must hold of climbing while accumulating, whatever the numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lookbehind import AccumulatingSAM, Every
from tests.laws.test_laws import Task, assert_same, in_a_row, momenta, rates, rhos, seeds

sizes = st.integers(1, 5)
anchors = st.booleans()


def path(seed: int, number: int, make: Callable[[list[nn.Parameter]], Any]) -> list[Tensor]:
    task, found = Task(seed), []
    optimizer = make(task.parameters)
    for t in range(5):
        optimizer.step([task.closure(t + i) for i in range(number)])
        found.append(in_a_row(task.parameters))
    return found


def accumulated(seed: int, number: int, base_of: Callable[[list[nn.Parameter]], Optimizer]) -> list[Tensor]:
    """Plain accumulation, as it is written without this package."""
    task, found = Task(seed), []
    base = base_of(task.parameters)
    for t in range(5):
        base.zero_grad()
        for i in range(number):
            (task.loss(t + i) / number).backward()
        base.step()
        found.append(in_a_row(task.parameters))
    return found


def sgd(lr: float, momentum: float) -> Callable[[list[nn.Parameter]], SGD]:
    return lambda p: SGD(p, lr, momentum, weight_decay=0.01)


@given(seeds, sizes, rates, momenta, anchors)
def test_rho_0_is_plain_accumulation(seed: int, number: int, lr: float, momentum: float, anchored: bool) -> None:
    base = sgd(lr, momentum)
    found = path(seed, number, lambda p: AccumulatingSAM(base(p), 0.0, anchored=anchored))
    assert_same(found, accumulated(seed, number, base))


@given(seeds, sizes, rhos, rates)
def test_a_step_that_does_not_climb_is_plain_accumulation(seed: int, number: int, rho: float, lr: float) -> None:
    base = sgd(lr, 0.9)
    found = path(seed, number, lambda p: AccumulatingSAM(base(p), rho, when=Every(1, radius=0.0)))
    assert_same(found, accumulated(seed, number, base))


@given(seeds, rhos, rates, momenta)
def test_chained_and_anchored_part_at_the_third_micro_batch(seed: int, rho: float, lr: float, momentum: float) -> None:
    base = sgd(lr, momentum)
    for number in (1, 2, 3):
        chained, anchored = (
            path(seed, number, lambda p, a=a: AccumulatingSAM(base(p), rho, anchored=a)) for a in (False, True)
        )
        if number < 3:
            assert_same(chained, anchored, 0)
        else:
            assert not torch.equal(chained[0], anchored[0])


@given(seeds, st.integers(2, 5), rhos, anchors)
def test_each_closure_is_called_once_in_order_and_rho_further(
    seed: int, number: int, rho: float, anchored: bool
) -> None:
    """The last micro-batch is not climbed from, and the model is back where it was when the base steps."""
    task, called = Task(seed), []

    def closure_of(i: int) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            called.append((i, in_a_row(task.parameters)))
            return task.closure(i)()

        return closure

    start = in_a_row(task.parameters)
    AccumulatingSAM(SGD(task.parameters, 0.0), rho, anchored=anchored).step([closure_of(i) for i in range(number)])
    assert [i for i, _ in called] == list(range(number))
    assert torch.equal(called[0][1], start)
    for (_, before), (_, after) in itertools.pairwise(called):
        origin = start if anchored else before
        torch.testing.assert_close((after - origin).norm().item(), rho, rtol=1e-9, atol=0)
    assert torch.equal(in_a_row(task.parameters), start)


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("passes", [{0}, {1}, {2}, {0, 2}, {0, 1, 2}, set()], ids=str)
def test_a_micro_batch_without_a_gradient_counts_as_zero(passes: set[int], anchored: bool) -> None:
    """∇ is 1 where there is any, so the mean is the share of micro-batches that have one."""
    w, other = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    optimizer = AccumulatingSAM(SGD([w, other], lr=1.0), 0.1, anchored=anchored)

    def closure_of(i: int) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = other.sum() + (w.sum() if i in passes else 0.0)
            loss.backward()
            return loss

        return closure

    optimizer.step([closure_of(i) for i in range(3)])
    assert w.item() == pytest.approx(-len(passes) / 3, abs=1e-12)
    assert (w.grad is None) == (not passes)


def test_no_micro_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 are needed"):
        AccumulatingSAM(SGD(Task(0).parameters, 0.1)).step([])
