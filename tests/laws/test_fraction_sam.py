"""What must hold of a climb by a fraction, whatever the numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD

from lookbehind import SAM, Every, FractionSAM
from tests.laws.test_laws import Task, assert_same, in_a_row, momenta, rates, rhos, rules, seeds, trajectory


def path(seed: int, lr: float, momentum: float, part: Callable[[int], int], **options: Any) -> list[Tensor]:
    """Six steps with minibatch i whole, and minibatch ``part(i)`` in the place of its part."""
    task, found = Task(seed), []
    optimizer = FractionSAM(SGD(task.parameters, lr, momentum, weight_decay=0.01), **options)
    for i in range(6):
        optimizer.step([task.closure(part(i)), task.closure(i)])
        found.append(in_a_row(task.parameters))
    return found


@given(seeds, rhos, rates, momenta, rules)
def test_the_whole_as_its_part_is_sam(seed: int, rho: float, lr: float, momentum: float, rule: str) -> None:
    sam = trajectory(seed, lambda p: SAM(SGD(p, lr, momentum, weight_decay=0.01), rho, perturbation=rule))
    assert_same(path(seed, lr, momentum, lambda i: i, rho=rho, perturbation=rule), sam, 0)


@given(seeds, rates, momenta)
def test_rho_0_is_the_base_on_the_whole(seed: int, lr: float, momentum: float) -> None:
    base = trajectory(seed, lambda p: SGD(p, lr, momentum, weight_decay=0.01))
    assert_same(path(seed, lr, momentum, lambda i: i + 1, rho=0.0), base, 0)


@given(seeds, rhos, rates)
def test_all_of_it_as_the_part_leaves_the_rest_no_weight(seed: int, rho: float, lr: float) -> None:
    """With f = 1 the base descends with ∇L_A(φ)."""
    base = trajectory(seed, lambda p: SGD(p, lr, 0.9, weight_decay=0.01))
    task, found = Task(seed), []
    optimizer = FractionSAM(SGD(task.parameters, lr, 0.9, weight_decay=0.01), rho, 1.0, "rest")
    for i in range(6):
        optimizer.step([task.closure(i), task.closure(i + 1)])
        found.append(in_a_row(task.parameters))
    assert_same(found, base)


@given(seeds, st.floats(0.05, 0.95))
def test_the_climb_is_the_part_s_and_rho_long(seed: int, rho: float) -> None:
    task = Task(seed)
    start, seen = in_a_row(task.parameters), []

    def watching() -> Tensor:
        seen.append(in_a_row(task.parameters))
        return task.closure(1)()

    FractionSAM(SGD(task.parameters, 0.1), rho).step([task.closure(0), watching])
    clean = Task(seed)
    clean.closure(0)()
    g = in_a_row(p.grad for p in clean.parameters if p.grad is not None)
    torch.testing.assert_close(seen[0] - start, rho * g / g.norm(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("descend", ["whole", "rest"])
def test_steps_that_do_not_climb(descend: str) -> None:
    """Whole: the second closure alone. Rest: both, at the clean weights."""
    task = Task(0)
    called = []

    def closure_of(i: int) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            called.append((i, in_a_row(task.parameters)))
            return task.closure(i)()

        return closure

    optimizer = FractionSAM(SGD(task.parameters, 0.1), 0.3, descend=descend, when=Every(2))
    for _ in range(2):
        start = in_a_row(task.parameters)
        del called[:]
        loss = optimizer.step([closure_of(0), closure_of(1)])
    assert [i for i, _ in called] == ([1] if descend == "whole" else [0, 1])
    assert all(torch.equal(at, start) for _, at in called)
    first = Task(0)
    with torch.no_grad():
        for p, part in zip(first.parameters, start.split([p.numel() for p in first.parameters]), strict=True):
            p.copy_(part.view_as(p))
    assert torch.equal(loss, first.loss(called[0][0]).detach())


@pytest.mark.parametrize(("passes", "moved"), [({0}, 0.25), ({1}, 0.75), ({0, 1}, 1.0), (set(), 0.0)])
def test_a_gradient_that_one_part_lacks_is_zero(passes: set[int], moved: float) -> None:
    """∇ is 1 where there is any: the rest has the share 1 − f, the part f."""
    w, other = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    optimizer = FractionSAM(SGD([w, other], lr=1.0), 0.1, 0.25, "rest")

    def closure_of(i: int) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = other.sum() + (w.sum() if i in passes else 0.0)
            loss.backward()
            return loss

        return closure

    optimizer.step([closure_of(0), closure_of(1)])
    assert w.item() == pytest.approx(-moved, abs=1e-12)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_two_closures_are_needed(number: int) -> None:
    task = Task(0)
    optimizer = FractionSAM(SGD(task.parameters, 0.1))
    with pytest.raises(ValueError, match=r"two are needed|at least 1 are needed"):
        optimizer.step([task.closure(i) for i in range(number)])


def test_the_rest_refuses_ranks_of_their_own() -> None:
    with pytest.raises(ValueError, match="descend='rest' takes no sync_ascent"):
        FractionSAM(SGD(Task(0).parameters, 0.1), descend="rest", sync_ascent=False)
