"""fp16 with torch's GradScaler, and bf16, through an ordinary closure."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lookbehind import SAM, Lookahead, Lookbehind
from tests.conformance.rows import ROWS, Row, Task, every_base, every_row, same, state_tensors

climbers = pytest.mark.parametrize("row", [r for r in ROWS if r.own_model], ids=lambda row: row.name)


def scaler_of(scale: float, **options) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=scale, **options)


def scaled(task: Task, scaler: torch.amp.GradScaler, i: int, overflow_at: int | None = None) -> Callable[[], Tensor]:
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        task.net.zero_grad()
        loss = task.loss(i)
        scaler.scale(loss).backward()
        if calls == overflow_at:
            assert task.net[0].weight.grad is not None
            task.net[0].weight.grad[0, 0] = float("inf")
        return loss

    return closure


@every_row
@every_base
@pytest.mark.parametrize("scale", [2.0**4, 2.0**16])
def test_a_run_without_overflow_equals_the_unscaled_run(row: Row, base, scale: float) -> None:
    """Bit for bit, since the scale is a power of two; so the perturbation does not depend on it."""
    a, b = Task(), Task()
    with_scaler, without = row.make(base(a.net.parameters())), row.make(base(b.net.parameters()))
    scaler = scaler_of(scale, growth_interval=3)
    for i in range(8):
        loss = with_scaler.step(scaled(a, scaler, i), grad_scaler=scaler)
        scaler.update()
        assert torch.equal(loss, without.step(b.closure(i)))
        assert same(a.weights(), b.weights())
    assert same(state_tensors(with_scaler), state_tensors(without))
    assert scaler.get_scale() == 4 * scale  # it grew twice, while steps went through


@every_row
@every_base
def test_an_overflow_in_any_pass_skips_the_whole_step(row: Row, base) -> None:
    for overflow_at in range(1, row.calls + 1):
        a, b = Task(), Task()
        optimizer, undisturbed = row.make(base(a.net.parameters())), row.make(base(b.net.parameters()))
        scaler = scaler_of(2.0**10)
        for i in range(6):
            if i in (0, 3):
                weights, state = a.weights(), state_tensors(optimizer)
                expected = a.loss(i).detach()
                loss = optimizer.step(scaled(a, scaler, i, overflow_at), grad_scaler=scaler)
                scaler.update()
                assert torch.equal(loss, expected) or not row.clean
                assert same(a.weights(), weights)
                assert same(state_tensors(optimizer), state)  # counters too
                assert optimizer.last_step_skipped
            optimizer.step(scaled(a, scaler, i), grad_scaler=scaler)
            scaler.update()
            assert not optimizer.last_step_skipped
            undisturbed.step(b.closure(i))
        assert scaler.get_scale() == 2.0**8  # halved twice
        assert same(a.weights(), b.weights())


@every_row
def test_a_disabled_scaler_is_no_scaler(row: Row) -> None:
    a, b = Task(), Task()
    scaler = scaler_of(2.0**10, enabled=False)
    one, other = (row.make(torch.optim.SGD(t.net.parameters(), lr=0.1)) for t in (a, b))
    for i in range(4):
        one.step(scaled(a, scaler, i), grad_scaler=scaler)
        scaler.update()
        other.step(b.closure(i))
    assert same(a.weights(), b.weights())


def test_a_forgotten_update_is_an_error_and_nothing_is_lost() -> None:
    task, scaler = Task(), scaler_of(2.0**4)
    optimizer = SAM(torch.optim.SGD(task.net.parameters(), lr=0.1))
    optimizer.step(scaled(task, scaler, 0), grad_scaler=scaler)
    before = task.weights()
    with pytest.raises(RuntimeError, match=r"update\(\)"):
        optimizer.step(scaled(task, scaler, 0), grad_scaler=scaler)
    assert same(task.weights(), before)


@every_row
def test_a_closure_that_fails_can_be_tried_again(row: Row) -> None:
    a, b, scaler = Task(), Task(), scaler_of(2.0**4)
    optimizer, other = (row.make(torch.optim.SGD(t.net.parameters(), lr=0.1)) for t in (a, b))

    def failing() -> Tensor:
        loss = scaled(a, scaler, 0)()
        a.calls += 1
        if a.calls == row.calls:
            raise MemoryError
        return loss

    for _ in range(2):
        a.calls = 0
        with pytest.raises(MemoryError):
            optimizer.step(failing, grad_scaler=scaler)
    optimizer.step(scaled(a, scaler, 0), grad_scaler=scaler)
    scaler.update()
    other.step(b.closure(0))
    assert same(a.weights(), b.weights())


def test_lookahead_without_closure_goes_through_the_scaler_s_own_step() -> None:
    a, b, scaler = Task(), Task(), scaler_of(2.0**6)
    optimizer, other = (Lookahead(torch.optim.SGD(t.net.parameters(), lr=0.1), k=2) for t in (a, b))
    for i in range(5):
        scaled(a, scaler, i, overflow_at=1 if i == 2 else None)()
        scaler.step(optimizer)
        scaler.update()
        if i != 2:
            other.step(b.closure(i))
    assert same(a.weights(), b.weights())


@pytest.mark.parametrize("row", [r for r in ROWS if r.name != "Lookahead-SGD"], ids=lambda row: row.name)
@pytest.mark.filterwarnings("ignore:GradScaler is going to stop passing itself:FutureWarning")
def test_the_scaler_s_own_step(row: Row) -> None:
    """With a closure it is ours; without, it would unscale one gradient of several, and is refused."""
    a, b, scaler = Task(), Task(), scaler_of(2.0**6)
    one, other = (row.make(torch.optim.SGD(t.net.parameters(), lr=0.1)) for t in (a, b))
    with pytest.raises(AssertionError, match="scale"):  # torch wants a scaled loss before the first step of a scaler
        scaler.step(one, scaled(a, scaler, 0))
    scaler.scale(torch.zeros(()))
    for i in range(4):
        scaler.step(one, scaled(a, scaler, i))
        scaler.update()
        other.step(b.closure(i))
    assert same(a.weights(), b.weights())
    scaled(a, scaler, 0)()
    with pytest.raises(TypeError, match="grad_scaler=scaler"):
        scaler.step(one)
    assert same(a.weights(), b.weights())


@pytest.mark.parametrize("row", [r for r in ROWS if r.name != "Lookahead-SGD"], ids=lambda row: row.name)
def test_a_scaler_that_is_hidden_on_its_way_is_noticed(row: Row) -> None:
    """As by Accelerate, whose step takes any arguments, so that the scaler does not hand itself on."""
    task, scaler = Task(), scaler_of(2.0**6)
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1))
    scaled(task, scaler, 0)()
    before, step = task.weights(), optimizer.step
    optimizer.step = lambda *arguments, **options: step(*arguments, **options)  # type: ignore[method-assign]
    with pytest.raises(TypeError, match="hides the scaler"):
        scaler.step(optimizer, scaled(task, scaler, 0))
    assert same(task.weights(), before)


@pytest.mark.parametrize("clip", ["norm", "value"])
def test_clipping_inside_the_closure_under_a_scaler(clip: str) -> None:
    """Both kinds of clipping scale with the gradient, so the threshold is multiplied by the scale."""
    a, b, scaler = Task(), Task(), scaler_of(2.0**6)
    clipper = nn.utils.clip_grad_norm_ if clip == "norm" else nn.utils.clip_grad_value_
    one, other = (Lookbehind(torch.optim.SGD(t.net.parameters(), lr=0.1), k=2) for t in (a, b))
    for i in range(4):
        inner, plain = scaled(a, scaler, i), b.closure(i)

        def closure() -> Tensor:
            loss = inner()  # noqa: B023 -- used within this pass of the loop only
            clipper(a.net.parameters(), 0.3 * scaler.get_scale())
            return loss

        def clipped() -> Tensor:
            loss = plain()  # noqa: B023
            clipper(b.net.parameters(), 0.3)
            return loss

        one.step(closure, grad_scaler=scaler)
        scaler.update()
        other.step(clipped)
    for w, v in zip(a.weights(), b.weights(), strict=True):
        torch.testing.assert_close(w, v, rtol=1e-5, atol=1e-7)  # clip_grad_norm_ adds 1e-6 to the norm


@every_row
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_trains_and_stays_near_float32(row: Row, dtype: torch.dtype) -> None:
    a, b = Task(dtype=torch.float32), Task(dtype=torch.float32)
    scaler = scaler_of(2.0**8, enabled=dtype is torch.float16)  # small enough for float16 to take every step
    one, other = (row.make(torch.optim.SGD(t.net.parameters(), lr=0.05)) for t in (a, b))
    first = sum(a.loss(i).item() for i in range(8))
    for i in range(40):

        def closure() -> Tensor:
            a.net.zero_grad()
            with torch.autocast("cpu", dtype=dtype):
                outputs = a.net(a.inputs[i % 8])  # noqa: B023 -- used within this pass of the loop only
            loss = nn.functional.mse_loss(outputs.float(), a.targets[i % 8])  # noqa: B023
            scaler.scale(loss).backward()
            return loss

        one.step(closure, grad_scaler=scaler)
        assert not one.last_step_skipped
        scaler.update()
        other.step(b.closure(i))
        if i == 9:
            for w, v in zip(a.weights(), b.weights(), strict=True):
                torch.testing.assert_close(w, v, rtol=0, atol=0.003 if dtype is torch.float16 else 0.03)
    assert sum(a.loss(i).item() for i in range(8)) < 0.8 * first
