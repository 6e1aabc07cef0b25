"""Whatever raises inside a step, at whatever moment: the weights are those of before, or of a finished step."""

from __future__ import annotations

import inspect
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor

import lookbehind
from lookbehind import SAM, Lookahead, Lookbehind
from lookbehind.optim import _rollback
from tests.conformance.rows import Row, Task, every_base, every_row, same, state_tensors

PACKAGE = str(Path(lookbehind.__file__).parent)


class Boom(Exception):
    pass


@contextmanager
def interrupt_at(event: int, where: Callable[[str], bool] = lambda _: True) -> Iterator[list[str]]:
    """Raise KeyboardInterrupt at one of the moments at which Ctrl-C can arrive, counted from 1 among those somewhere.

    These are the lines of the package and of the base's arithmetic, and the entry of torch's context managers. They are
    not the lines of a wrapper that switches gradients off: its `finally` is one call of a C function, which signals
    cannot precede.
    """
    events: list[str] = []

    def trace(frame: FrameType, what: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        ours = file.startswith(PACKAGE) or file.endswith(("torch/optim/sgd.py", "torch/optim/adamw.py"))
        manager = file.endswith(("torch/autograd/grad_mode.py", "torch/utils/_contextlib.py"))
        if (what == "line" and ours and frame.f_code.co_name != "wrapped") or (what == "call" and manager):
            line = f"{file}:{frame.f_lineno}"
            if where(line):
                events.append(line)
                if len(events) == event:
                    raise KeyboardInterrupt
        return trace

    old = sys.gettrace()
    sys.settrace(trace)
    try:
        yield events
    finally:
        sys.settrace(old)


@every_row
@every_base
def test_closure_raises(row: Row, base) -> None:
    task = Task()
    optimizer = row.make(base(task.net.parameters()))
    for i in range(3):
        optimizer.step(task.closure(i))
    for failing_call in range(1, row.calls + 1):
        calls = 0

        def closure() -> Tensor:
            nonlocal calls
            calls += 1
            loss = task.closure()()
            if calls == failing_call:  # noqa: B023 -- the closure is used within this pass of the loop only
                raise Boom
            return loss

        before = task.weights()
        with pytest.raises(Boom):
            optimizer.step(closure)
        assert same(task.weights(), before)


def _break_base(optimizer: Any, at: int) -> Callable[[], None]:
    """Make the innermost base optimizer move the weights and raise in its at-th step from now; return the undoing."""
    base = optimizer
    while hasattr(base, "base"):
        base = base.base
    original, calls = base.step, 0

    def step(closure: Any = None) -> Any:
        nonlocal calls
        calls += 1
        loss = original(closure)
        if calls == at:
            raise Boom
        return loss

    base.step = step
    return lambda: setattr(base, "step", original)


@every_row
@every_base
@pytest.mark.parametrize("at", [1, 3])
def test_base_raises(row: Row, base, at: int) -> None:
    if at > 1 and not row.name.startswith("Lookbehind"):
        pytest.skip("one base step a step")
    task = Task()
    optimizer = row.make(base(task.net.parameters()))
    optimizer.step(task.closure())
    before = task.weights()
    _break_base(optimizer, at)
    with pytest.raises(Boom):
        optimizer.step(task.closure(1))
    assert same(task.weights(), before)


@every_row
@every_base
def test_full_rollback_makes_a_retry_equal_an_undisturbed_run(row: Row, base) -> None:
    a, b = Task(), Task()
    disturbed, undisturbed = row.make(base(a.net.parameters()), rollback="full"), row.make(base(b.net.parameters()))
    for i in range(7):
        before = state_tensors(disturbed)
        for at in (1, 3) if row.name.startswith("Lookbehind") else (1,):
            mend = _break_base(disturbed, at)
            with pytest.raises(Boom):
                disturbed.step(a.closure(i))
            mend()
            assert same(state_tensors(disturbed), before)
        disturbed.step(a.closure(i))
        undisturbed.step(b.closure(i))
        assert same(a.weights(), b.weights())
    assert same(state_tensors(disturbed), state_tensors(undisturbed))


def test_full_rollback_restores_dropout_s_random_state() -> None:
    drawn: list[Tensor] = []
    optimizer = SAM(torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1), rollback="full")

    def closure() -> Tensor:
        drawn.append(torch.rand(3))
        raise Boom

    for _ in range(2):
        with pytest.raises(Boom):
            optimizer.step(closure)
    assert torch.equal(*drawn)


@every_row
@pytest.mark.parametrize("rollback", ["weights", "full"])
def test_ctrl_c_at_every_line(row: Row, rollback: str) -> None:
    """At the first and at the last time that a step comes by a line."""

    def begun() -> tuple[Task, Any]:
        task = Task()
        base = torch.optim.SGD(task.net.parameters(), lr=0.1, momentum=0.9, foreach=True)
        optimizer = row.make(base, rollback=rollback)
        for i in range(2):  # the third step closes Lookahead's cycle
            optimizer.step(task.closure(i))
        return task, optimizer

    undisturbed, other = begun()
    start, state = undisturbed.weights(), state_tensors(other)
    entries = [{k: v for k, v in group.items() if k != "params"} for group in other.param_groups]
    with interrupt_at(10**9) as lines:
        other.step(undisturbed.closure(2))
    done, end = undisturbed.weights(), state_tensors(other)
    moments = sorted({(line, n) for line, count in Counter(lines).items() for n in (1, count)})
    assert len(moments) > 100

    task, optimizer = begun()
    interrupted = 0
    for line, n in moments:
        if row.name.startswith("Lookahead"):  # Ctrl-C can come when its step is done
            task, optimizer = begun()
        before = interrupted
        with interrupt_at(n, line.__eq__):
            try:
                optimizer.step(task.closure(2))
            except KeyboardInterrupt:
                interrupted += 1
        assert torch.is_grad_enabled()
        if interrupted == before:  # a step does not come by some lines equally often
            task, optimizer = begun()
        if row.name.startswith("Lookahead") and same(task.weights(), done):
            continue
        assert same(task.weights(), start), f"after Ctrl-C at {line}"
        assert [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups] == entries
        if rollback == "full":
            assert same(state_tensors(optimizer), state), f"after Ctrl-C at {line}"
    assert interrupted > 0.9 * len(moments)
    if row.name.startswith("Lookahead"):
        task, optimizer = begun()
    optimizer.step(task.closure(2))
    assert not same(task.weights(), start)
    if rollback == "full":
        assert same(task.weights(), done)
        assert same(state_tensors(optimizer), end)


def test_lookahead_goes_on_after_ctrl_c_at_the_end_of_a_step() -> None:
    """What its step leaves for the next one is either there or left out."""

    def begun() -> tuple[Task, Lookahead]:
        task = Task()
        optimizer = Lookahead(torch.optim.SGD(task.net.parameters(), lr=0.1, momentum=0.9), k=3, rollback="full")
        optimizer.step(task.closure(0))
        return task, optimizer

    undisturbed, other = begun()
    seen = []
    for i in range(1, 6):
        other.step(undisturbed.closure(i))
        seen.append(undisturbed.weights())
    after, last = seen[0], seen[-1]
    found, at = 0, 0
    while True:
        at += 1
        task, optimizer = begun()
        with interrupt_at(at, lambda line: "lookahead.py" in line):
            try:
                optimizer.step(task.closure(1))
                break
            except KeyboardInterrupt:
                pass
        done = same(task.weights(), after)
        found += done
        for i in range(2 if done else 1, 6):
            optimizer.step(task.closure(i))
        assert same(task.weights(), last)
    assert found > 2


@every_row
def test_a_second_ctrl_c_while_restoring(row: Row) -> None:
    task = Task()
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1, momentum=0.9), rollback="full")
    optimizer.step(task.closure(0))
    start = task.weights()

    def closure() -> Tensor:
        task.closure(1)()
        if task.calls % row.calls == 0:
            task.calls = 0
            raise Boom
        return task.loss(1)

    task.calls = 0
    with interrupt_at(10**9, _is_restoring) as restoring, pytest.raises(Boom):
        optimizer.step(closure)
    assert len(restoring) > 5
    for at in range(1, len(restoring) + 1):
        task.calls = 0
        with interrupt_at(at, _is_restoring) as events, pytest.raises((Boom, KeyboardInterrupt)):
            optimizer.step(closure)
        assert same(task.weights(), start), f"after Ctrl-C at {events[at - 1]}"


@cache
def _is_restoring(line: str) -> bool:
    """Whether a line is in Rollback.restore."""
    file, number = line.rsplit(":", 1)
    lines, first = inspect.getsourcelines(_rollback.Rollback.restore)
    return file == _rollback.__file__ and first <= int(number) < first + len(lines)


def test_ctrl_c_at_random_moments() -> None:
    """A real signal, at moments that no line number names."""
    task = Task()
    optimizer = Lookbehind(torch.optim.SGD(task.net.parameters(), lr=1e-3, momentum=0.9), rho=0.1, k=3)
    inside = False

    def alarm(*_: Any) -> None:
        if inside:
            raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, alarm)
    generator = torch.Generator().manual_seed(0)
    interrupted = 0
    try:
        for i in range(150):
            before = task.weights()
            delay = 1e-5 + 3e-3 * torch.rand((), generator=generator).item()
            signal.setitimer(signal.ITIMER_REAL, delay)
            inside = True
            try:
                optimizer.step(task.closure(i))
                inside = False
            except KeyboardInterrupt:
                inside = False
                interrupted += 1
                assert torch.is_grad_enabled()
                if not same(task.weights(), before):  # then it came when the step was done
                    moved = [w - b for w, b in zip(task.weights(), before, strict=True)]
                    assert torch.cat([m.flatten() for m in moved]).norm() < 0.05  # an ascent goes 0.1 or more
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, old)
    assert interrupted > 10


def test_slow_weights_survive_ctrl_c_on_entering_and_leaving() -> None:
    task = Task()
    optimizer = Lookahead(torch.optim.SGD(task.net.parameters(), lr=0.1), k=4)
    optimizer.step(task.closure())
    fast = task.weights()
    for at in range(1, 60):
        with interrupt_at(at):
            try:
                with optimizer.slow_weights():
                    pass
            except KeyboardInterrupt:
                pass
            else:
                break
        assert torch.is_grad_enabled()
        optimizer.slow_weights().leave()
        assert same(task.weights(), fast)
    assert at > 5


@every_row
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonfinite_gradient_raises_with_names(row: Row, value: float) -> None:
    task = Task()
    base = torch.optim.SGD(task.net.named_parameters(), lr=0.1, momentum=0.9)
    optimizer = row.make(base, nonfinite="raise")
    optimizer.step(task.closure())
    for bad_call in range(1, row.calls + 1):
        before = task.weights()
        with pytest.raises(FloatingPointError, match=r"2\.bias"):
            optimizer.step(_poisoned(task, bad_call, value))
        assert same(task.weights(), before)


def _poisoned(task: Task, bad_call: int, value: float) -> Callable[[], Tensor]:
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        loss = task.closure()()
        if calls == bad_call:
            assert task.net[2].bias.grad is not None
            task.net[2].bias.grad[0] = value
        return loss

    return closure


@every_row
def test_nonfinite_gradient_skips_as_if_the_step_had_not_been(row: Row) -> None:
    for bad_call in range(1, row.calls + 1):
        a, b = Task(), Task()
        skipping = row.make(torch.optim.AdamW(a.net.parameters(), lr=0.01), nonfinite="skip")
        clean = row.make(torch.optim.AdamW(b.net.parameters(), lr=0.01))
        for i in range(5):
            if i == 2:
                expected = a.loss(0).detach()
                loss = skipping.step(_poisoned(a, bad_call, float("nan")))
                assert torch.equal(loss, expected) or not row.clean
            skipping.step(a.closure(i))
            clean.step(b.closure(i))
        assert skipping.skipped_steps == 1
        assert same(a.weights(), b.weights())


def test_lookahead_does_not_count_what_its_base_skips() -> None:
    task = Task()
    optimizer = Lookahead(SAM(torch.optim.SGD(task.net.parameters(), lr=0.1), nonfinite="skip"), k=3)
    optimizer.step(task.closure())
    optimizer.step(_poisoned(task, 2, float("nan")))
    assert (optimizer.cycle_step, optimizer.skipped_steps) == (1, 1)


@every_row
def test_nonfinite_gradient_propagates_by_default(row: Row) -> None:
    task = Task()
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1))
    optimizer.step(_poisoned(task, 1, float("nan")))
    assert any(w.isnan().any() for w in task.weights())
