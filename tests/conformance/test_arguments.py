"""Wrong arguments: an error that names the value and what is allowed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lookbehind import SAM, Adaptive, Lookahead, Lookbehind, MultistepSAM
from tests.conformance.rows import Row, Task, every_row


def base() -> torch.optim.SGD:
    return torch.optim.SGD(Task().net.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: SAM(base(), rho=-0.1), ValueError, "rho is -0.1.*at least 0"),
        (lambda: SAM(base(), rho=float("nan")), ValueError, "rho is nan"),
        (lambda: SAM(base(), rho=float("inf")), ValueError, "rho is inf"),
        (lambda: SAM(base(), rho="0.1"), TypeError, "rho is '0.1' .*number"),
        (lambda: SAM(base(), rho=True), TypeError, "rho is True"),
        (lambda: SAM(base(), perturbation="sma"), ValueError, "'sma'.*'sam'.*'asam'"),
        (lambda: SAM(base(), perturbation=Adaptive), ValueError, "Adaptive.*rule object"),
        (lambda: SAM(base(), perturbation=None), ValueError, "None.*'asam'"),
        (lambda: SAM(base(), nonfinite="ignore"), ValueError, "'ignore'.*'propagate', 'skip', 'raise'"),
        (lambda: SAM(base(), rollback="none"), ValueError, "'none'.*'weights', 'full'"),
        (lambda: SAM(base(), model="net"), TypeError, "model is 'net'.*Module"),
        (lambda: SAM(Task().net.parameters()), TypeError, "base is .*torch.optim.Optimizer"),
        (lambda: SAM(torch.optim.SGD), TypeError, "base is .*instance"),
        (lambda: SAM(SAM(base())), ValueError, "base is SAM.*closure"),
        (lambda: SAM(Lookahead(SAM(base()))), ValueError, "base is Lookahead.*closure"),
        (lambda: Lookbehind(torch.optim.LBFGS(Task().net.parameters())), ValueError, "LBFGS.*closure"),
        (lambda: MultistepSAM(base(), k=0), ValueError, "k is 0.*at least 1"),
        (lambda: MultistepSAM(base(), k=2.0), TypeError, "k is 2.0 .*whole number"),
        (lambda: MultistepSAM(base(), k=True), TypeError, "k is True"),
        (lambda: MultistepSAM(base(), gradient="sum"), ValueError, "'sum'.*'last', 'mean'"),
        (lambda: Lookbehind(base(), alpha=0.0), ValueError, "alpha is 0.0.*at most 1"),
        (lambda: Lookbehind(base(), alpha=1.5), ValueError, "alpha is 1.5"),
        (lambda: Lookbehind(base(), alpha=float("nan")), ValueError, "alpha is nan"),
        (lambda: Lookbehind(base(), alpha="auto"), ValueError, "'auto'.*'adaptive'.*'adaptive_per_tensor'"),
        (lambda: Lookbehind(base(), alpha=None), TypeError, "alpha is None"),
        (lambda: Lookahead(base(), k=-1), ValueError, "k is -1"),
        (lambda: Lookahead(base(), alpha=0), ValueError, "alpha is 0"),
        (lambda: Adaptive(eta=-1.0), ValueError, "eta is -1.0"),
        (lambda: Adaptive(named_parameters=[("bias", torch.ones(1))]), ValueError, "'weight'"),
        (lambda: Adaptive(named_parameters=Task().net.parameters()), TypeError, "named_parameters has a .*names"),
        (lambda: Adaptive(named_parameters=3), TypeError, "named_parameters has 3"),
        (lambda: SAM(base(), rho=10**400), ValueError, "rho is too large"),
        (lambda: SAM(base()).group_key("alpha"), KeyError, "alpha"),
    ],
)
def test_constructor(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_a_bad_rho_in_a_group_of_the_base() -> None:
    groups = [{"params": Task().net.parameters(), "rho": -2.0}]
    with pytest.raises(ValueError, match=r"rho is -2\.0"):
        SAM(torch.optim.SGD(groups, lr=0.1))


@every_row
@pytest.mark.parametrize("closure", ["loss", 3])
def test_step_without_a_callable(row: Row, closure: Any) -> None:
    with pytest.raises(TypeError, match=r"optimizer.step\(closure\)"):
        row.make(base()).step(closure)


@every_row
def test_step_without_a_closure(row: Row) -> None:
    optimizer = row.make(base())
    if row.name == "Lookahead-SGD":
        optimizer.step()
        return
    with pytest.raises(TypeError, match=r"None.*optimizer.step\(closure\)"):
        optimizer.step()


def test_switching_with_another_number_of_closures() -> None:
    task = Task()
    optimizer = Lookbehind(torch.optim.SGD(task.net.parameters(), lr=0.1), k=3)
    with pytest.raises(ValueError, match=r"2 closures; 3 are needed"):
        optimizer.step([task.closure(0), task.closure(1)])
    with pytest.raises(TypeError, match="closure"):
        optimizer.step([task.closure(0), task.closure(1), None])
    with pytest.raises(TypeError, match="closure"):
        MultistepSAM(base(), k=2).step([task.closure(0), task.closure(1)])


def test_numpy_numbers_are_numbers() -> None:
    optimizer = Lookbehind(base(), rho=np.float32(0.25), k=np.int64(3), alpha=np.float64(0.5))
    assert (optimizer.param_groups[0]["rho"], optimizer.k, optimizer.param_groups[0]["alpha"]) == (0.25, 3, 0.5)
    assert type(optimizer.param_groups[0]["rho"]) is float


@every_row
def test_checkpoint_probe_makes_the_base_s_state(row: Row) -> None:
    """torch.distributed.checkpoint makes missing state by a step with learning rate 0, zero gradients, no closure."""
    task = Task()
    optimizer = row.make(torch.optim.AdamW(task.net.parameters(), lr=0.0))
    for p in task.net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step(closure=None)
    assert len(optimizer.state) == 4
    if row.name.startswith("Lookahead"):
        assert optimizer.cycle_step == 0


def test_named_parameters_that_are_views() -> None:
    """Weights in one flat memory are leaves, and views of it."""
    flat = torch.arange(1.0, 7.0)
    weight, bias = flat[:4].view(2, 2).detach().requires_grad_(), flat[4:].detach().requires_grad_()
    rule = Adaptive(eta=0.0, named_parameters={"weight": weight, "bias": bias})
    assert [t.tolist() for t in rule.scale([weight, bias])] == [[[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("option", "value"), [("nonfinite", "ignore"), ("rollback", "none"), ("same_dropout", "yes"), ("same_dropout", 1)]
)
def test_an_option_is_checked_where_it_is_set_later(option: str, value: object) -> None:
    optimizer = SAM(base())
    before = getattr(optimizer, option)
    with pytest.raises(ValueError, match=f"{option} is .*; allowed are"):
        setattr(optimizer, option, value)
    assert getattr(optimizer, option) == before
    assert getattr(copy.deepcopy(optimizer), option) == before


def test_another_base_than_it_was_built_around_is_named() -> None:
    optimizer = SAM(base())
    optimizer.base = base()
    with pytest.raises(RuntimeError, match=r"another one than it was built around; build it anew: SAM\(base, ...\)"):
        optimizer.step(lambda: torch.zeros(()))
    first = base()
    optimizer = SAM(first)
    Lookahead(first)
    with pytest.raises(RuntimeError, match="wrapped again since, by Lookahead"):
        optimizer.step(lambda: torch.zeros(()))
