"""The rivals of the league against arithmetic of their own, and what they must keep."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lookbehind import checkpoint
from lookbehind.league.rivals import ema, momentum_sam_either_way, swa

STEPS = 12
INPUTS = torch.linspace(-1, 1, 24, dtype=torch.float64).view(8, 3)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).double()


def closure_of(model: nn.Module, optimizer: Optimizer, i: int) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(INPUTS + i) - 1.0).square().mean()
        loss.backward()
        return loss

    return closure


def numbers(model: nn.Module) -> np.ndarray[Any, Any]:
    """Return weights, then running statistics."""
    tensors = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    return torch.cat([t.detach().flatten() for t in tensors]).numpy()


def trained(make: Callable[[Optimizer, nn.Module], Optimizer], steps: int = STEPS) -> tuple[Any, nn.Module, list[Any]]:
    """Return the optimizer, its model, and what the model held after each step."""
    model = net()
    optimizer = make(SGD(model.parameters(), lr=0.05, momentum=0.9), model)
    path = []
    for i in range(steps):
        optimizer.step(closure_of(model, optimizer, i))
        path.append(numbers(model))
    return optimizer, model, path


def plain() -> list[Any]:
    return trained(lambda base, model: base)[2]


def shown(optimizer: Any, model: nn.Module) -> np.ndarray[Any, Any]:
    with optimizer.slow_weights(), optimizer.slow_weights():  # as in an evaluation within one
        return numbers(model)


def test_an_average_changes_nothing_of_the_training() -> None:
    for make in (lambda b, m: ema(b, m, 0.9), lambda b, m: swa(b, m, STEPS, 0.5)):
        assert np.array_equal(trained(make)[2], plain())


def test_ema() -> None:
    optimizer, model, path = trained(lambda base, model: ema(base, model, decay=0.6))
    average = path[0]
    for t, point in enumerate(path[1:], 1):
        decay = min(0.6, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * point
    np.testing.assert_allclose(shown(optimizer, model), average, rtol=1e-12)
    assert np.array_equal(numbers(model), path[-1])  # outside, the weights that are trained


def test_swa() -> None:
    optimizer, model, path = trained(lambda base, model: swa(base, model, STEPS, start=0.75))
    np.testing.assert_allclose(shown(optimizer, model), np.mean(path[9:], axis=0), rtol=1e-12)


def test_before_its_start_swa_shows_the_weights() -> None:
    optimizer, model, path = trained(lambda base, model: swa(base, model, steps=100, start=0.75))
    assert np.array_equal(shown(optimizer, model), path[-1])


@pytest.mark.parametrize("make", [lambda b, m: ema(b, m, 0.9), lambda b, m: swa(b, m, STEPS, 0.5)])
def test_resumed_it_is_bit_for_bit_the_same(make: Any, tmp_path: Any) -> None:
    whole, model, _ = trained(make)
    expected = shown(whole, model)
    first, model, _ = trained(make, steps=8)
    checkpoint.save(tmp_path / "last.pt", {"model": model.state_dict(), "optimizer": first.state_dict()})
    again = net()
    optimizer = make(SGD(again.parameters(), lr=0.05, momentum=0.9), again)
    state = checkpoint.load(tmp_path / "last.pt")
    again.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for i in range(8, STEPS):
        optimizer.step(closure_of(again, optimizer, i))
    assert np.array_equal(shown(optimizer, again), expected)


def test_either_way_goes_both_ways_and_keeps_rho() -> None:
    """With the sign that torch's random state draws, a step is one of Momentum-SAM's at ρ or at −ρ."""
    from lookbehind import MomentumSAM

    model = net()
    optimizer = momentum_sam_either_way(SGD(model.parameters(), lr=0.05, momentum=0.9), rho=0.3)
    signs = []
    for i in range(STEPS):
        before = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
        torch.manual_seed(i)
        optimizer.step(closure_of(model, optimizer, i))
        torch.manual_seed(i)
        signs.append(1.0 if torch.rand(()).item() < 0.5 else -1.0)
        other = net()
        other.load_state_dict(before[0])
        base = SGD(other.parameters(), lr=0.05, momentum=0.9)
        base.state.update({p: before[1][j] for j, p in enumerate(other.parameters()) if j in before[1]})
        if signs[-1] > 0:
            once: Optimizer = MomentumSAM(base, rho=0.3)
            once.step(closure_of(other, once, i))
            assert np.array_equal(numbers(other)[:-8], numbers(model)[:-8])
        assert optimizer.param_groups[0]["rho"] == 0.3
    assert {1.0, -1.0} == set(signs)
