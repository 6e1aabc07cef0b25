"""A step: closures, the loss it returns, what the model holds afterwards, and what the step does not do."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from lookbehind import SAM, Euclidean, Lookahead, Lookbehind, MultistepSAM, _tensors
from tests.conformance.rows import Row, Synchronisations, Task, every_base, every_row, same


def sgd(task: Task, **options: float) -> torch.optim.SGD:
    return torch.optim.SGD(task.net.parameters(), lr=0.1, **options)


@every_row
def test_is_an_optimizer(row: Row) -> None:
    assert isinstance(row.make(sgd(Task())), torch.optim.Optimizer)


@every_row
@every_base
def test_calls_and_loss_of_the_unperturbed_weights(row: Row, base) -> None:
    task = Task()
    optimizer = row.make(base(task.net.parameters()))
    for i in range(4):
        expected = task.loss(i).detach()
        task.calls = 0
        loss = optimizer.step(task.closure(i))
        assert task.calls == row.calls
        if row.clean:
            assert torch.equal(loss.detach(), expected)


@every_row
def test_an_ordinary_training_script_lowers_the_loss(row: Row) -> None:
    task = Task()
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.02, momentum=0.5))
    first = sum(task.loss(i).item() for i in range(8))
    for i in range(80):
        optimizer.step(task.closure(i))
    assert sum(task.loss(i).item() for i in range(8)) < 0.8 * first


@every_row
def test_weights_stay_where_they_are_in_memory(row: Row) -> None:
    task = Task()
    optimizer = row.make(sgd(task))
    where = [p.data_ptr() for p in task.net.parameters()]
    for i in range(4):
        optimizer.step(task.closure(i))
    assert [p.data_ptr() for p in task.net.parameters()] == where


@every_row
def test_parameters_of_others_are_never_touched(row: Row) -> None:
    task = Task()
    first, last = task.net[0], task.net[2]
    optimizer = row.make(torch.optim.SGD(last.parameters(), lr=0.1))
    before = [p.detach().clone() for p in first.parameters()]
    seen: list[list[Tensor]] = []

    def closure() -> Tensor:
        seen.append([p.detach().clone() for p in first.parameters()])
        return task.closure()()

    optimizer.step(closure)
    assert all(same(weights, before) for weights in [*seen, list(first.parameters())])


def test_switching_minibatches_takes_2k_gradients_on_k_minibatches() -> None:
    task = Task()
    optimizer = Lookbehind(sgd(task), rho=0.1, k=3)
    called: list[int] = []

    def minibatch(i: int):
        def closure() -> Tensor:
            called.append(i)
            return task.closure(i)()

        return closure

    expected = task.loss(0).detach()
    loss = optimizer.step([minibatch(i) for i in range(3)])
    assert called == [0, 0, 1, 1, 2, 2]
    assert torch.equal(loss, expected)


def test_lookahead_steps_without_closure_around_a_plain_optimizer() -> None:
    a, b = Task(), Task()
    with_closure, without = Lookahead(sgd(a), k=2), Lookahead(sgd(b), k=2)
    for i in range(5):
        with_closure.step(a.closure(i))
        b.closure(i)()
        assert without.step() is None
        assert same(a.weights(), b.weights())


def test_lookahead_counts_the_first_step_of_a_warmup_from_zero() -> None:
    task = Task()
    optimizer = Lookahead(torch.optim.SGD(task.net.parameters(), lr=0.1), k=2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: min(1.0, t / 2))
    seen = []
    for i in range(3):
        task.closure(i)()
        optimizer.step()
        scheduler.step()
        seen.append(optimizer.cycle_step)
    assert seen == [1, 0, 1]


def test_lookahead_shows_slow_weights_on_request() -> None:
    task = Task()
    optimizer = Lookahead(sgd(task), k=3, alpha=0.5)
    start = task.weights()
    optimizer.step(task.closure())
    fast = task.weights()
    with optimizer.slow_weights():
        assert same(task.weights(), start)
    assert same(task.weights(), fast)
    with pytest.raises(ZeroDivisionError), optimizer.slow_weights():
        raise ZeroDivisionError
    assert same(task.weights(), fast)


def test_lookahead_checkpoint_within_slow_weights_has_the_fast_ones() -> None:
    task, resumed = Task(), Task()
    optimizer, again = Lookahead(sgd(task), k=3), Lookahead(sgd(resumed), k=3)
    optimizer.step(task.closure())
    with optimizer.slow_weights():
        resumed.net.load_state_dict(task.net.state_dict())
        again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for i in range(1, 5):
        optimizer.step(task.closure(i))
        again.step(resumed.closure(i))
        assert same(task.weights(), resumed.weights())


def test_lookahead_checkpoint_without_the_fast_weights_is_refused() -> None:
    """As a distributed checkpoint would be, which loads what the optimizer that loads it has."""
    task = Task()
    optimizer = Lookahead(sgd(task), k=3)
    optimizer.step(task.closure())
    with optimizer.slow_weights():
        saved = copy.deepcopy(optimizer.state_dict())
    for entry in saved["state"].values():
        del entry["lookahead_fast"]
    with pytest.raises(ValueError, match="fast weights are missing"):
        Lookahead(sgd(Task()), k=3).load_state_dict(saved)


def test_a_step_leaves_the_slow_weights_view_first() -> None:
    """Ctrl-C can skip an __exit__; the fast weights must not be lost."""
    a, b = Task(), Task()
    left, undisturbed = Lookahead(sgd(a), k=3), Lookahead(sgd(b), k=3)
    left.step(a.closure(0))
    undisturbed.step(b.closure(0))
    left.slow_weights().__enter__()
    left.step(a.closure(1))
    undisturbed.step(b.closure(1))
    assert same(a.weights(), b.weights())


def test_lookahead_follows_weights_loaded_after_construction() -> None:
    task = Task()
    optimizer = Lookahead(sgd(task), k=1, alpha=0.5)
    task.net.load_state_dict({k: torch.zeros_like(v) for k, v in task.net.state_dict().items()})
    optimizer.step(task.closure())
    moved = task.weights()
    plain = Task()
    plain.net.load_state_dict({k: torch.zeros_like(v) for k, v in plain.net.state_dict().items()})
    base = sgd(plain)
    base.step(plain.closure())
    for w, full in zip(moved, plain.weights(), strict=True):
        torch.testing.assert_close(w, 0.5 * full, rtol=1e-12, atol=1e-15)


def test_slow_weights_in_a_checkpoint_follow_the_model() -> None:
    task = Task()
    optimizer = Lookahead(sgd(task), k=2, alpha=0.5)
    for i in range(2):  # a whole cycle
        optimizer.step(task.closure(i))
    saved = [entry["lookahead_slow"] for entry in optimizer.state_dict()["state"].values()]
    assert same(saved, task.weights())


@every_row
@pytest.mark.usefixtures("on_a_device")
def test_no_host_synchronisation(row: Row) -> None:
    task = Task()
    optimizer = row.make(sgd(task, momentum=0.9))
    for i in range(4):
        with Synchronisations() as syncs:
            optimizer.step(task.closure(i))
        assert syncs.found == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_row
def test_weights_on_a_device_move_as_on_the_cpu(row: Row, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """There ε is written and then added, here it is added at once: with the same rounding."""
    tasks = Task(dtype=dtype), Task(dtype=dtype)
    here, there = (row.make(sgd(task, momentum=0.9)) for task in tasks)
    for i in range(4):
        here.step(tasks[0].closure(i))
        with monkeypatch.context() as patch:
            patch.setattr(_tensors, "on_host", lambda t: False)
            there.step(tasks[1].closure(i))
    assert same(tasks[0].weights(), tasks[1].weights())


def test_a_rule_that_overrides_the_call_of_another_is_called() -> None:
    class Twice(Euclidean):
        def __call__(self, weights: list[Tensor], gradients: list[Tensor], state: Any) -> tuple[list[Tensor], Tensor]:
            direction, length = super().__call__(weights, gradients, state)
            return [2 * d for d in direction], length

    a, b = Task(), Task()
    SAM(sgd(a), rho=0.1, perturbation=Twice()).step(a.closure())
    SAM(sgd(b), rho=0.2).step(b.closure())
    for found, expected in zip(a.weights(), b.weights(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_the_synchronisation_counter_counts() -> None:
    task = Task()
    with Synchronisations() as syncs:
        SAM(sgd(task), nonfinite="raise").step(task.closure())
    assert syncs.found


def _memory(action) -> tuple[int, int]:
    """Return the bytes that an action holds in the end, and at its peak, counted by the profiler."""
    gc.collect()  # so that nothing of another test is freed meanwhile
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    changes = [e.nbytes() for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for change in changes:
        held += change
        peak = max(peak, held)
    return held, peak


@every_row
def test_copies_held_and_at_the_peak(row: Row, elsewhere: bool) -> None:
    p = torch.nn.Parameter(torch.randn(1 << 18))
    gradient = torch.randn_like(p)
    p.grad = torch.zeros_like(p)

    def closure() -> Tensor:
        assert p.grad is not None
        p.grad.copy_(gradient.add_(0.01))  # another one each time
        return torch.zeros(())

    optimizer = row.make(torch.optim.SGD([p], lr=0.1, momentum=0.9))
    size = p.numel() * p.element_size()
    held, peak = _memory(lambda: [optimizer.step(closure) for _ in range(4)])
    assert round(held / size - 1, 2) == row.copies  # one is the momentum
    assert round(peak / size - 1, 2) == row.copies + (row.transients if elsewhere else row.transients_on_host)
    held, _ = _memory(lambda: optimizer.step(closure))
    assert held < 0.01 * size  # nothing more is kept, step after step


@every_row
def test_rho_is_read_at_every_step_and_per_group(row: Row) -> None:
    if row.name == "Lookahead-SGD":
        pytest.skip("has no rho")
    task = Task()
    optimizer = row.make(sgd(task))
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3, dtype=torch.float64))], "rho": 0.0})
    for p in task.net[2].parameters():
        p.requires_grad_(False)
    seen: list[list[Tensor]] = []

    def closure() -> Tensor:
        seen.append([p.detach().clone() for p in optimizer.param_groups[1]["params"]] + task.weights()[:1])
        optimizer.zero_grad()
        loss = task.loss(0) * optimizer.param_groups[1]["params"][0].sum()
        loss.backward()
        return loss

    def perturbed() -> list[bool]:
        """Whether a gradient was taken at other weights than those before the step; some methods begin plainly."""
        optimizer.step(closure)
        seen.clear()
        before = [p.detach().clone() for p in optimizer.param_groups[1]["params"]] + task.weights()[:1]
        optimizer.step(closure)
        return [any(not torch.equal(at[j], w) for at in seen) for j, w in enumerate(before)]

    assert perturbed() == [False, True]
    optimizer.param_groups[0]["rho"] = 0.0
    assert perturbed() == [False, False]


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_alpha_is_read_at_every_step(alpha: float) -> None:
    a, b = Task(), Task()
    scheduled, fixed = Lookbehind(sgd(a), k=2, alpha=0.5), Lookbehind(sgd(b), k=2, alpha=alpha)
    scheduled.param_groups[0]["alpha"] = alpha
    scheduled.step(a.closure())
    fixed.step(b.closure())
    assert same(a.weights(), b.weights())


@pytest.mark.parametrize("base", [torch.optim.Adadelta, torch.optim.RMSprop, torch.optim.ASGD])
def test_entries_of_the_same_name_in_the_base_stay_the_base_s(base) -> None:
    """Adadelta has a rho of its own, RMSprop and ASGD (in some releases) an alpha."""
    task = Task()
    optimizer = Lookbehind(base(task.net.parameters(), lr=0.01), rho=0.07, k=2, alpha=0.6)
    defaults = base(task.net.parameters()).param_groups[0]
    for name, value in (("rho", 0.07), ("alpha", 0.6)):
        assert optimizer.param_groups[0][optimizer.group_key(name)] == value
        if name in defaults:
            assert optimizer.group_key(name) == f"lookbehind_{name}"
            assert optimizer.param_groups[0][name] == defaults[name]
    optimizer.step(task.closure())


@pytest.mark.parametrize("base", [torch.optim.Adadelta, torch.optim.RMSprop, torch.optim.ASGD])
@every_row
def test_every_optimizer_leaves_the_base_its_entries(row: Row, base) -> None:
    task = Task()
    optimizer = row.make(base(task.net.parameters(), lr=0.01))
    theirs = base(task.net.parameters(), lr=0.01).param_groups[0]
    before = task.weights()
    optimizer.step(task.closure())
    assert not same(task.weights(), before)
    assert {name: optimizer.param_groups[0][name] for name in theirs if name != "params"} == {
        name: value for name, value in theirs.items() if name != "params"
    }


def test_lookahead_nests() -> None:
    task = Task()
    optimizer = Lookahead(Lookahead(Lookbehind(sgd(task), alpha=0.9), k=2, alpha=0.7), k=2, alpha=0.5)
    group = optimizer.param_groups[0]
    assert (group["alpha"], group["lookahead_alpha"], group["lookahead_lookahead_alpha"]) == (0.9, 0.7, 0.5)
    for i in range(3):
        optimizer.step(task.closure(i))
    keys = set(optimizer.state_dict()["state"][0])
    assert {"lookahead_slow", "lookahead2_slow"} <= keys


@pytest.mark.parametrize("make", [SAM, MultistepSAM, Lookbehind])
def test_adam_base_sees_the_fast_weights(make) -> None:
    """AdamW's decay acts on the weights that move: with zero gradients it shrinks them, and nothing perturbs them."""
    task = Task()
    optimizer = make(torch.optim.AdamW(task.net.parameters(), lr=0.1, weight_decay=0.5))

    def closure() -> Tensor:
        for p in task.net.parameters():
            p.grad = torch.zeros_like(p)
        return torch.zeros(())

    before = task.weights()
    optimizer.step(closure)
    steps, alpha = (optimizer.k, 0.5) if make is Lookbehind else (1, 1.0)
    factor = 1 - alpha + alpha * (1 - 0.1 * 0.5) ** steps
    for w, b in zip(task.weights(), before, strict=True):
        torch.testing.assert_close(w, factor * b, rtol=1e-12, atol=0)
