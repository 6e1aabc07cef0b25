"""What must hold of XSAM's arc and of its search, whatever the numbers."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD

from lookbehind import XSAM
from tests.conformance.rows import Task as NormTask
from tests.laws.test_laws import Task, in_a_row, rhos, seeds

arcs = st.floats(0.0, 2.0)


@given(seeds, rhos, st.sampled_from([1, 2, 3]), arcs)
def test_the_descent_is_as_long_as_the_gradient_at_the_end(seed: int, rho: float, k: int, alpha: float) -> None:
    task = Task(seed)
    before, lengths = in_a_row(task.parameters), []

    def closure() -> Tensor:
        loss = task.closure(0)()
        lengths.append(in_a_row(p.grad for p in task.parameters if p.grad is not None).norm().item())
        return loss

    XSAM(SGD(task.parameters, 1.0), rho, k, alpha).step(closure)
    assert len(lengths) == k + 1
    assert (in_a_row(task.parameters) - before).norm().item() == pytest.approx(lengths[-1], rel=1e-6)


PLANE = torch.eye(2, dtype=torch.float64)


def turned(angle: float, alpha: float, dtype: torch.dtype, axes: Tensor = PLANE) -> tuple[float, float]:
    """Return angle and length of a descent: v₀ is the first axis, and v₁ as many degrees from it."""
    p = nn.Parameter(torch.zeros(axes.shape[1], dtype=dtype))
    radians = math.radians(angle)
    gradients = iter([axes[0], math.cos(radians) * axes[0] + math.sin(radians) * axes[1]])

    def closure() -> None:
        p.grad = next(gradients).to(dtype)

    XSAM(SGD([p], lr=1.0), rho=0.5, alpha=alpha).step(closure)
    descent = -p.detach().double()
    x, y = (axes @ descent).tolist()
    return math.degrees(math.atan2(y, x)) % 360, descent.norm().item()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 1.6, 2.0])
@pytest.mark.parametrize("angle", [3, 10, 25, 60, 120, 160, 172])
def test_alpha_is_the_share_of_the_angle(angle: float, alpha: float, dtype: torch.dtype) -> None:
    """Also in half precision, whose own rounding is not the angle's."""
    found, length = turned(angle, alpha, dtype)
    tolerance = 2.0 if dtype.itemsize == 2 else 0.01
    assert abs((found - alpha * angle + 180) % 360 - 180) < tolerance
    assert length == pytest.approx(1.0, abs=0.05 if dtype.itemsize == 2 else 1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("angle", [0.0, 180.0])
def test_where_there_is_no_arc_the_gradient_is_taken(angle: float, alpha: float, dtype: torch.dtype) -> None:
    found, length = turned(angle, alpha, dtype)
    assert abs((found - angle + 180) % 360 - 180) < 0.01
    assert length == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("angle", [178.0, 179.0, 179.5, 179.8, 179.9, 179.99])
def test_rounding_does_not_lengthen_the_descent_where_climb_and_gradient_cancel(
    angle: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(256, 2, generator=generator, dtype=torch.float64))[0].T
    for alpha in (0.5, 1.6):
        assert turned(angle, alpha, dtype, axes)[1] == pytest.approx(1.0, abs=0.05)


@given(seeds, arcs, st.integers(0, 3))
def test_no_gradient_is_a_gradient_of_zero(seed: int, alpha: float, missing: int) -> None:
    """Whichever of the two evaluations lacks one."""
    for at in (0, 1):
        ends = []
        for none in (True, False):
            task, calls = Task(seed), []

            def closure(task: Task = task, calls: list[int] = calls, none: bool = none, at: int = at) -> Tensor:
                loss = task.closure(0)()
                if len(calls) == at:
                    p = task.parameters[missing]
                    p.grad = None if none else torch.zeros_like(p)
                calls.append(1)
                return loss

            XSAM(SGD(task.parameters, 0.1), 0.3, alpha=alpha).step(closure)
            ends.append(in_a_row(task.parameters))
        torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-12)


def test_a_parameter_without_any_gradient_stays_where_a_rule_moves_it() -> None:
    class Along:
        needs_gradient = False
        keeps_state = False

        def __call__(self, weights: list[Tensor], gradients: Any, state: Any) -> tuple[list[Tensor], Tensor]:
            return [torch.ones_like(w) for w in weights], torch.ones((), dtype=torch.float64)

    w, idle = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    optimizer = XSAM(SGD([w, idle], lr=0.1, weight_decay=0.1), 0.3, alpha=0.5, perturbation=Along())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (w[0] ** 2 + 3 * w[1] ** 2) / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    assert idle.grad is None
    assert torch.equal(idle.detach(), torch.ones(2, dtype=torch.float64))
    assert (w.detach() < 1).all()


class Stop(Exception):
    pass


@pytest.mark.parametrize("at", [0, 1, 2, 9, 23])
@pytest.mark.parametrize("none", [False, True], ids=["gradients before", "none before"])
def test_a_search_puts_everything_back(at: int, none: bool) -> None:
    """Whether it ends well or not: 2 calls of the closure, then 21 of the loss. Only α may be another."""
    task = NormTask(norm=True)
    optimizer = XSAM(SGD(task.net.parameters(), 0.1, 0.9), 0.2, alpha=0.3, model=task.net)
    optimizer.step(task.closure(0))
    if none:
        task.net.zero_grad()
    kept = [*task.net.parameters(), *task.net.buffers()]
    gradients = [p.grad for p in task.net.parameters()]
    kept += [g for g in gradients if g is not None]
    before = [t.detach().clone() for t in kept]
    state = io.BytesIO()
    torch.save(optimizer.state_dict()["state"], state)
    calls = 0

    def counted(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def called() -> Tensor:
            nonlocal calls
            found = function()
            calls += 1
            if calls == at + 1:
                raise Stop
            return found

        return called

    arguments = counted(task.closure(1)), counted(lambda: task.loss(1))
    if at < 23:
        with pytest.raises(Stop):
            optimizer.search(*arguments)
        assert optimizer.param_groups[0]["alpha"] == 0.3
    else:
        assert optimizer.search(*arguments) == optimizer.param_groups[0]["alpha"]
        assert calls == 23
    assert all(p.grad is g for p, g in zip(task.net.parameters(), gradients, strict=True))
    assert all(map(torch.equal, [t.detach() for t in kept], before))
    after = io.BytesIO()
    torch.save(optimizer.state_dict()["state"], after)
    assert state.getvalue() == after.getvalue()


@pytest.mark.parametrize("value", [0.0, -5.0, float("nan"), float("inf")])
def test_equal_losses_choose_1_and_losses_that_are_no_number_choose_nothing(value: float) -> None:
    task = Task(0)
    optimizer = XSAM(SGD(task.parameters, 0.1), 0.2, alpha=0.3)
    assert optimizer.search(task.closure(0), lambda: value) == (1.0 if math.isfinite(value) else 0.3)


def test_what_was_found_is_in_checkpoints() -> None:
    task = Task(0)
    optimizer = XSAM(SGD(task.parameters[:3], 0.1), 0.2)
    losses = iter([0.0] * 7 + [1.0] + [0.0] * 13)
    assert optimizer.search(task.closure(0), lambda: next(losses)) == 0.7
    other = XSAM(SGD(Task(0).parameters[:3], 0.1), 0.2)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.param_groups[0]["alpha"] == 0.7
