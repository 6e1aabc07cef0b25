"""Optimizers as people use them: cells run twice, odd bases, weights that change between steps, modes of the caller."""

from __future__ import annotations

import contextlib
import copy
import inspect
import pickle
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import SGD, Adam, AdamW, NAdam

import lookbehind
from lookbehind import ASAM, SAM, Euclidean, Lookahead, Lookbehind, MultistepSAM
from lookbehind.optim import NonfiniteGradientError, norm, norms
from lookbehind.training import fit
from tests.conformance.rows import ROWS, Row, Synchronisations, Task, every_base, every_row, same, state_tensors

climbers = pytest.mark.parametrize("row", [r for r in ROWS if r.own_model], ids=lambda row: row.name)
lookaheads = pytest.mark.parametrize("row", [r for r in ROWS if not r.own_model], ids=lambda row: row.name)


def sgd(task: Task, **options: Any) -> SGD:
    return SGD(task.net.parameters(), **{"lr": 0.1, **options})


def first_ascent(task: Task, optimizer: Any) -> float:
    """Return ‖ε‖ of the next step."""
    seen: list[Tensor] = []

    def closure() -> Tensor:
        seen.append(torch.cat([w.flatten() for w in task.weights()]))
        return task.closure()()

    optimizer.step(closure)
    return (seen[1] - seen[0]).norm().item()


# --- a cell is run again -------------------------------------------------------------------------------------------


def test_a_second_wrapper_has_its_own_rho() -> None:
    task = Task()
    base = sgd(task)
    SAM(base, rho=0.05)
    assert first_ascent(task, SAM(base, rho=0.7)) == pytest.approx(0.7)
    assert first_ascent(task, Lookbehind(base, rho=0.3, k=2)) == pytest.approx(0.3)
    assert first_ascent(task, Lookahead(SAM(base, rho=0.2), k=4)) == pytest.approx(0.2)
    assert first_ascent(task, SAM(base)) == pytest.approx(0.05)
    assert set(base.param_groups[0]) - set(sgd(Task()).param_groups[0]) == {"rho", "method", "skipped_steps"}


@every_row
@every_base
def test_wrapping_twice_is_wrapping_once(row: Row, base) -> None:
    a, b = Task(), Task()
    twice = base(a.net.parameters())
    row.make(twice).step(a.closure(7))
    twice.load_state_dict(base(Task().net.parameters()).state_dict())  # as new
    a.net.load_state_dict(b.net.state_dict())
    one, other = row.make(twice), row.make(base(b.net.parameters()))
    for i in range(4):
        one.step(a.closure(i))
        other.step(b.closure(i))
    assert same(a.weights(), b.weights())
    assert same(state_tensors(one), state_tensors(other))


def test_what_the_user_gave_to_a_group_stays() -> None:
    task = Task()
    base = SGD([{"params": task.net[0].parameters(), "rho": 0.0}, {"params": task.net[2].parameters()}], lr=0.1)
    SAM(base, rho=0.1)
    again = SAM(base, rho=0.7)
    assert [group["rho"] for group in again.param_groups] == [0.0, 0.7]


@pytest.mark.parametrize("how", ["copied", "loaded"])
def test_a_base_with_the_numbers_of_another_wrapper_takes_those_of_its_own(how: str) -> None:
    task, other = Task(), Task()
    base = sgd(task)
    Lookahead(Lookbehind(base, rho=0.05, k=3), k=4).step(task.closure())
    if how == "copied":
        again, net = copy.deepcopy((base, task.net))
        other.net = net
    else:
        again = sgd(other)
        again.load_state_dict(base.state_dict())
    optimizer = SAM(again, rho=0.7)
    assert optimizer.param_groups[0]["method"] == "SAM(perturbation=Euclidean())"
    assert first_ascent(other, optimizer) == pytest.approx(0.7)
    SAM(sgd(Task())).load_state_dict(copy.deepcopy(optimizer.state_dict()))


def test_lookahead_around_the_same_wrapper_again_begins_anew() -> None:
    task = Task()
    inner = SAM(sgd(task), rho=0.1)
    Lookahead(inner, k=5, alpha=0.3).step(task.closure())
    again = Lookahead(inner, k=3, alpha=0.9)
    assert (again.cycle_step, again.param_groups[0]["alpha"]) == (0, 0.9)
    assert not any("lookahead_slow" in entry for entry in again.state.values())


def test_a_wrapper_whose_base_was_wrapped_again_says_so() -> None:
    task = Task()
    base = sgd(task)
    old, new = SAM(base, rho=0.1), Lookbehind(base, rho=0.2)
    before = task.weights()
    with pytest.raises(RuntimeError, match="SAM was wrapped again since, by Lookbehind"):
        old.step(task.closure())
    assert same(task.weights(), before)
    new.step(task.closure())


@pytest.mark.parametrize(
    "refused",
    [
        lambda base: SAM(base, rho=-1.0),
        lambda base: SAM(base, rho="0.1"),
        lambda base: SAM(base, perturbation="sma"),
        lambda base: SAM(base, perturbation=lambda w, g: g),
        lambda base: SAM(base, model="net"),
        lambda base: SAM(base, nonfinite="no"),
        lambda base: SAM(base, rollback=True),
        lambda base: SAM(base, sync_ascent=False),
        lambda base: SAM(base, same_dropout="yes"),
        lambda base: SAM(base, momentum=0.9),
        lambda base: MultistepSAM(base, k=0),
        lambda base: MultistepSAM(base, gradient="sum"),
        lambda base: Lookbehind(base, alpha=2.0),
        lambda base: Lookbehind(base, alpha="auto"),
        lambda base: Lookbehind(base, k=1.5),
        lambda base: Lookahead(base, k=0),
        lambda base: Lookahead(base, alpha=None),
        lambda base: Lookahead(base, rollback="all"),
        lambda base: Lookahead(SAM(base, rho=float("inf"))),
        lambda base: ASAM(base, eta=-1.0),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_refused_constructor_leaves_the_base_as_it_was(refused: Callable[[Any], Any], wrapped: bool) -> None:
    task = Task()
    base = sgd(task, momentum=0.9)
    optimizer = SAM(base, rho=0.3) if wrapped else base
    optimizer.step(task.closure())
    before = copy.deepcopy(base.state_dict())
    with pytest.raises((TypeError, ValueError)):
        refused(base)
    after = base.state_dict()
    assert str(after["param_groups"]) == str(before["param_groups"])
    assert same(
        [e["momentum_buffer"] for e in after["state"].values()],
        [e["momentum_buffer"] for e in before["state"].values()],
    )
    assert first_ascent(task, SAM(base, rho=0.7)) == pytest.approx(0.7)


# --- maximize ------------------------------------------------------------------------------------------------------


@every_row
@pytest.mark.parametrize(
    "base",
    [lambda p, **o: SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, **o), lambda p, **o: AdamW(p, lr=0.01, **o)],
)
def test_maximize_is_minimising_the_negative(row: Row, base) -> None:
    a, b = Task(), Task()
    up, down = row.make(base(a.net.parameters(), maximize=True)), row.make(base(b.net.parameters()))

    def negative(i: int) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            a.net.zero_grad()
            reward = -a.loss(i)
            reward.backward()
            return reward

        return closure

    for i in range(6):
        up.step(negative(i))
        down.step(b.closure(i))
    for w, v in zip(a.weights(), b.weights(), strict=True):
        torch.testing.assert_close(w, v, rtol=0, atol=1e-12)


def test_maximize_in_one_group_only() -> None:
    """A saddle: one parameter is maximised, the other minimised. Each climbs against its own descent."""
    x, y = nn.Parameter(torch.tensor(1.0, dtype=torch.float64)), nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    optimizer = SAM(SGD([{"params": [x]}, {"params": [y], "maximize": True}], lr=0.0), rho=0.5)
    seen = []

    def closure() -> Tensor:
        seen.append((x.item(), y.item()))
        optimizer.zero_grad()
        loss = 3 * x + 4 * y
        loss.backward()
        return loss

    optimizer.step(closure)
    assert seen[1] == pytest.approx((1.0 + 0.5 * 0.6, 2.0 - 0.5 * 0.8))


# --- exceptions, losses, gradients ---------------------------------------------------------------------------------


class Own(BaseException):
    pass


@every_row
@pytest.mark.parametrize(
    "error",
    [StopIteration, StopAsyncIteration, GeneratorExit, SystemExit, Own, NonfiniteGradientError, AssertionError],
)
@pytest.mark.parametrize("nonfinite", ["propagate", "skip"])
def test_every_exception_passes_through_unchanged(row: Row, error: type[BaseException], nonfinite: str) -> None:
    task = Task()
    optimizer = row.make(sgd(task), nonfinite=nonfinite)
    before = task.weights()
    for at in range(1, row.calls + 1):
        raised = error("end")
        calls = 0

        def closure() -> Tensor:
            nonlocal calls
            calls += 1
            if calls == at:  # noqa: B023 -- used in this pass of the loop only
                raise raised  # noqa: B023
            return task.closure()()

        with pytest.raises(error) as caught:
            optimizer.step(closure)
        assert caught.value is raised
        assert same(task.weights(), before)


@every_row
def test_a_loader_that_ends_within_the_closure(row: Row) -> None:
    task = Task()
    optimizer = row.make(sgd(task))
    loader: Iterator[int] = iter([0])

    def closure() -> Tensor:
        return task.closure(next(loader))()

    if row.calls == 1:
        optimizer.step(closure)
    with pytest.raises(StopIteration):
        optimizer.step(closure)


@every_row
def test_the_loss_is_not_written_to_again(row: Row) -> None:
    task = Task()
    optimizer = row.make(sgd(task))
    buffer = torch.zeros((), dtype=torch.float64)
    found: list[float] = []

    def closure(whole: bool = False) -> Any:
        buffer.copy_(task.closure()().detach())
        found.append(buffer.item())
        return {"loss": buffer, "parts": [buffer, "name"]} if whole else buffer

    number = optimizer.step(closure)
    buffer.zero_()
    assert number.item() == found[0]
    found.clear()
    whole: Any = optimizer.step(lambda: closure(whole=True))
    buffer.zero_()
    assert whole["loss"].item() == whole["parts"][0].item() == found[0]
    assert whole["parts"][1] == "name"


@every_row
@pytest.mark.parametrize("to_none", [True, False])
def test_a_closure_that_does_not_zero(row: Row, to_none: bool) -> None:
    """Zeroed before the step, as is right for torch's optimizers."""
    a, b = Task(), Task()
    one, other = row.make(sgd(a, momentum=0.5)), row.make(sgd(b, momentum=0.5))

    def closure(i: int) -> Callable[[], Tensor]:
        def forgetful() -> Tensor:
            loss = a.loss(i)
            loss.backward()
            return loss

        return forgetful

    for i in range(4):
        one.zero_grad(set_to_none=to_none)
        one.step(closure(i))
        other.step(b.closure(i))
    assert same(a.weights(), b.weights())


@every_row
def test_gradients_in_memory_of_the_closure_s_own(row: Row) -> None:
    """As a CUDA graph has them: it writes to the tensors that ``.grad`` was when it was captured."""
    a, b = Task(), Task()
    one, other = row.make(sgd(a)), row.make(sgd(b))
    static = [torch.zeros_like(p) for p in a.net.parameters()]
    for p, g in zip(a.net.parameters(), static, strict=True):
        p.grad = g

    def replay(i: int) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            loss = a.loss(i)
            for g, new in zip(static, torch.autograd.grad(loss, list(a.net.parameters())), strict=True):
                g.copy_(new)
            return loss

        return closure

    for i in range(4):
        one.step(replay(i))
        other.step(b.closure(i))
        assert all(p.grad is g for p, g in zip(a.net.parameters(), static, strict=True))
    assert same(a.weights(), b.weights())


# --- weights that something else changes ---------------------------------------------------------------------------


@lookaheads
def test_nested_views_of_the_slow_weights(row: Row) -> None:
    task = Task()
    optimizer: Any = row.make(sgd(task))
    start = task.weights()
    optimizer.step(task.closure())
    fast = task.weights()
    view = optimizer.slow_weights()
    with view:
        with optimizer.slow_weights(), view:
            assert same(task.weights(), start)
        assert same(task.weights(), start)
    assert same(task.weights(), fast)


@lookaheads
@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("moved", [False, True])
def test_a_layer_that_is_frozen_keeps_its_value(row: Row, at: int, moved: bool) -> None:
    task = Task()
    optimizer: Any = row.make(sgd(task))
    for i in range(3 + at):
        optimizer.step(task.closure(i))
    for p in task.net[0].parameters():
        p.requires_grad_(False)
        p.grad = None
        if moved:
            p.fill_(0.25)
    value = [p.clone() for p in task.net[0].parameters()]
    with optimizer.slow_weights():
        assert same(list(task.net[0].parameters()), value)
    for i in range(4):
        optimizer.step(task.closure(i))
        with optimizer.slow_weights():
            assert same(list(task.net[0].parameters()), value)
        assert same(list(task.net[0].parameters()), value)
    for p in task.net[0].parameters():  # and thawed, it goes on from there
        p.requires_grad_(True)
    with optimizer.slow_weights():
        assert same(list(task.net[0].parameters()), value)
    optimizer.step(task.closure())
    assert not same(list(task.net[0].parameters()), value)


@lookaheads
@pytest.mark.parametrize("how", ["copy_", "data", "load_state_dict"])
def test_weights_loaded_within_a_cycle(row: Row, how: str) -> None:
    task = Task()
    optimizer: Any = row.make(sgd(task))
    optimizer.step(task.closure())
    if how == "load_state_dict":
        task.net.load_state_dict({k: torch.full_like(v, 0.5) for k, v in task.net.state_dict().items()})
    for p in task.net.parameters():
        if how == "copy_":
            with torch.no_grad():
                p.copy_(torch.full_like(p, 0.5))
        elif how == "data":
            p.data = torch.full_like(p, 0.5)
    loaded = task.weights()
    with optimizer.slow_weights():
        assert same(task.weights(), loaded)
    optimizer.param_groups[0]["lr"] = 0.0
    for _ in range(2):
        optimizer.step(task.closure())
    assert same(task.weights(), loaded)


@lookaheads
def test_averaged_weights_loaded_for_evaluation_change_nothing(row: Row) -> None:
    a, b = Task(), Task()
    one, other = row.make(sgd(a)), row.make(sgd(b))
    averaged = torch.optim.swa_utils.AveragedModel(a.net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    for i in range(7):
        one.step(a.closure(i))
        other.step(b.closure(i))
        averaged.update_parameters(a.net)
        kept = copy.deepcopy(a.net.state_dict())
        a.net.load_state_dict(averaged.module.state_dict())
        a.loss(0)
        a.net.load_state_dict(kept)
    assert same(a.weights(), b.weights())


def test_weights_clipped_after_each_step_stay_within_their_bounds_and_are_followed() -> None:
    """A clipped weight begins anew at its bound; the others are interpolated as ever."""
    p = nn.Parameter(torch.tensor([0.0, 0.0], dtype=torch.float64))
    optimizer = Lookahead(SGD([p], lr=1.0), k=3, alpha=0.5)
    for _ in range(3):
        p.grad = torch.tensor([-1.0, -0.1], dtype=torch.float64)
        optimizer.step()
        with torch.no_grad():
            p.clamp_(max=0.9)
    # Fast weights: 1 → 0.9, 1.9 → 0.9, 1.9; the slow one is 0.9 since, so 0.9 + 0.5 (1.9 − 0.9) = 1.4 → 0.9.
    torch.testing.assert_close(p.detach(), torch.tensor([0.9, 0.15], dtype=torch.float64))


def test_pruned_weights_stay_pruned() -> None:
    task = Task()
    optimizer = Lookahead(sgd(task), k=2, alpha=0.5)
    optimizer.step(task.closure(0))
    mask = task.net[0].weight.detach() > 0
    for i in range(1, 4):
        with torch.no_grad():
            task.net[0].weight.mul_(mask)
        optimizer.step(task.closure(i))
        with torch.no_grad():
            task.net[0].weight.mul_(mask)
        with optimizer.slow_weights():
            assert not task.net[0].weight[~mask].any()


@lookaheads
def test_a_cycle_can_be_begun_anew(row: Row) -> None:
    a, b = Task(), Task()
    one: Any = row.make(sgd(a))
    for i in range(2):
        one.step(a.closure(i))
    with one.slow_weights():
        one.begin_cycle()  # at what the model holds
        b.net.load_state_dict(a.net.state_dict())
    other: Any = row.make(sgd(b))
    assert one.cycle_step == 0
    for i in range(4):
        one.step(a.closure(i))
        other.step(b.closure(i))
    assert same(a.weights(), b.weights())


@every_row
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_model_cast_between_steps(row: Row, at: int) -> None:
    """To float64 and on: as if the float32 weights had been given to a float64 model at that time."""
    a, b = Task(dtype=torch.float32), Task(dtype=torch.float32)
    one, other = row.make(sgd(a, momentum=0.9)), row.make(sgd(b, momentum=0.9))
    for i in range(6):
        if i == at:
            a.net.double()
            a.inputs, a.targets = a.inputs.double(), a.targets.double()
            for entry in one.state.values():
                entry["momentum_buffer"] = entry["momentum_buffer"].double()
        one.step(a.closure(i))
        other.step(b.closure(i))
    for w, v in zip(a.weights(), b.weights(), strict=True):
        assert w.dtype is torch.float64
        torch.testing.assert_close(w, v.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("split", [(1, 2), (1, 3), (2, 3), (1, 2, 4)])
@lookaheads
def test_training_in_parts_equals_training_at_once(row: Row, split: tuple[int, ...]) -> None:
    """Each call of ``fit`` ends on the slow weights; the next one goes on with the fast ones."""
    ends = []
    for parts in (split, split[-1:]):
        task = Task(dtype=torch.float32)
        optimizer: Any = row.make(sgd(task))
        data = [(task.inputs[i], task.targets[i]) for i in range(4)]  # a cycle of 3 ends elsewhere
        history = None
        for epochs in parts:
            history = fit(task.net, optimizer, data, epochs=epochs, loss=nn.functional.mse_loss, history=history)
            with optimizer.slow_weights():
                shown = task.weights()
            assert same(shown, task.weights())
            # Through files, too.
            model, state = copy.deepcopy((task.net.state_dict(), optimizer.state_dict()))
            task = Task(dtype=torch.float32)
            optimizer = row.make(sgd(task))
            task.net.load_state_dict(model)
            optimizer.load_state_dict(state)
        ends.append(task.weights())
    assert same(*ends)


@lookaheads
def test_loading_within_slow_weights_stays(row: Row) -> None:
    a, b = Task(), Task(seed=1)
    one, other = row.make(sgd(a)), row.make(sgd(b))
    for i in range(2):
        one.step(a.closure(i))
        other.step(b.closure(i))
    expected = b.weights()
    with one.slow_weights():  # type: ignore[attr-defined]
        a.net.load_state_dict(b.net.state_dict())
        one.load_state_dict(copy.deepcopy(other.state_dict()))
    assert same(a.weights(), expected)


@lookaheads
@pytest.mark.parametrize("accepted", [True, False])
def test_loading_a_bare_state_within_slow_weights_gives_the_fast_ones_back(row: Row, accepted: bool) -> None:
    task = Task()
    optimizer = row.make(sgd(task))
    for i in range(2):
        optimizer.step(task.closure(i))
    fast = task.weights()
    with optimizer.slow_weights():  # type: ignore[attr-defined]
        slow = task.weights()
        if accepted:
            optimizer.load_state_dict(sgd(Task()).state_dict())
            assert same(task.weights(), fast)
        else:
            with pytest.raises(ValueError, match=r"rho|alpha|size|groups"):
                optimizer.load_state_dict(torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1).state_dict())
            assert same(task.weights(), slow)
    assert same(task.weights(), fast)


# --- memory --------------------------------------------------------------------------------------------------------


def shared(how: str) -> list[Tensor]:
    a, b = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4, 4))
    if how == "one memory":
        b.data = a.data
    elif how == "transposed":
        b.data = a.data.T
    elif how == "overlapping":
        flat = torch.randn(24)
        a.data, b.data = flat[:16].view(4, 4), flat[8:].view(4, 4)
    elif how == "columns":
        both = torch.randn(4, 8)
        a.data, b.data = both[:, :4], both[:, 4:]
    elif how == "bucket":
        flat = torch.randn(32)
        a.data, b.data = flat[:16].view(4, 4), flat[16:].view(4, 4)
    return [a, b]


@every_row
@pytest.mark.parametrize("how", ["one memory", "transposed", "overlapping"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_parameters_that_share_memory_are_refused(row: Row, how: str, when: str) -> None:
    params = shared(how)
    before = [p.detach().clone() for p in params]
    if when == "before":
        with pytest.raises(ValueError, match=r"share their memory.*b\.weight = a\.weight"):
            row.make(SGD(params, lr=0.1))
        return
    apart = [nn.Parameter(p.detach().clone()) for p in params]
    optimizer = row.make(SGD(apart, lr=0.1))
    for p, q in zip(apart, params, strict=True):
        p.data = q.data
    with pytest.raises(ValueError, match="share their memory"):
        optimizer.step(lambda: torch.zeros(()))
    assert same([p.detach() for p in apart], before)


@every_row
@pytest.mark.parametrize("how", ["columns", "bucket"])
def test_parameters_beside_each_other_in_one_tensor_are_not(row: Row, how: str) -> None:
    moved = []
    for params in (shared(how), shared("apart")):
        with torch.no_grad():
            for p in params:
                p.fill_(0.5)
        optimizer = row.make(SGD(params, lr=0.1, foreach=False))

        def closure() -> Tensor:
            optimizer.zero_grad()  # noqa: B023 -- used in this pass of the loop only
            loss = (params[0] @ params[1]).square().sum()  # noqa: B023
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        moved.append([p.detach().clone() for p in params])
    for w, v in zip(*moved, strict=True):
        torch.testing.assert_close(w, v)


@every_row
def test_a_lazy_module_is_ready_after_the_first_step(row: Row) -> None:
    x, y = torch.randn(6, 4), torch.randn(6, 2)
    weight = torch.linspace(-1, 1, 12).view(3, 4)
    moved = []
    for lazy in (True, False):
        torch.manual_seed(0)
        last = nn.Linear(3, 2)
        first = nn.LazyLinear(3, bias=False) if lazy else nn.Linear(4, 3, bias=False)
        net = nn.Sequential(first, last)
        optimizer = row.make(AdamW(net.parameters()))
        calls = 0

        def closure() -> Tensor:
            nonlocal calls
            calls += 1
            if calls == 1:
                net(x)  # noqa: B023 -- used in this pass of the loop only
                with torch.no_grad():
                    net[0].weight.copy_(weight)  # noqa: B023
            optimizer.zero_grad()  # noqa: B023
            loss = nn.functional.mse_loss(net(x), y)  # noqa: B023
            loss.backward()
            return loss

        if not lazy:
            with torch.no_grad():
                net[0].weight.copy_(weight)
        for _ in range(3):
            optimizer.step(closure)
        assert calls == 3 * row.calls
        moved.append([p.detach().clone() for p in net.parameters()])
    assert same(*moved)


# --- the optimizer from outside ------------------------------------------------------------------------------------


@climbers
@pytest.mark.parametrize("grads", ["none", "some", "zero in some"])
def test_a_step_without_closure_is_an_error_also_at_learning_rate_zero(row: Row, grads: str) -> None:
    task = Task()
    optimizer = row.make(sgd(task, lr=0.0))
    if grads == "some":
        task.closure()()
    elif grads == "zero in some":
        task.net[0].weight.grad = torch.zeros_like(task.net[0].weight)
    with pytest.raises(TypeError, match=r"optimizer.step\(closure\)"):
        optimizer.step()


@every_row
@pytest.mark.parametrize("state", ["new", "stepped", "copied", "emptied"])
def test_reading_attributes_raises_nothing_but_attribute_errors(row: Row, state: str) -> None:
    task = Task()
    optimizer: Any = row.make(sgd(task))
    if state == "stepped":
        optimizer.step(task.closure())
    if state == "copied":
        optimizer = pickle.loads(pickle.dumps(optimizer))
    if state == "emptied":
        optimizer.param_groups = []
    assert dict(inspect.getmembers(optimizer))
    for name in dir(optimizer):
        getattr(optimizer, name, None)
    assert not hasattr(optimizer, "no_such_thing")
    bare = object.__new__(type(optimizer))  # as while it is unpickled
    for name in (*dir(type(optimizer)), "no_such_thing", "train"):
        getattr(bare, name, None)


@every_row
def test_state_and_groups_can_be_assigned(row: Row) -> None:
    task, plain = Task(), Task()
    optimizer, bare = row.make(sgd(task, momentum=0.9)), sgd(plain, momentum=0.9)
    optimizer.step(task.closure())
    optimizer.state = defaultdict(dict)  # forget the momentum
    assert not optimizer.state
    optimizer.step(task.closure())
    groups = bare.param_groups
    optimizer.param_groups = [{**group, "params": list(task.net.parameters()), "lr": 0.0} for group in groups]
    before = task.weights()
    if not row.name.startswith("Lookahead"):
        optimizer.step(task.closure())  # groups that have no rho take the default
        assert same(task.weights(), before)
    assert optimizer.param_groups[0]["lr"] == 0.0


NUMBERS = [(row, "rho") for row in ROWS if row.name != "Lookahead-SGD"]
NUMBERS += [(row, "alpha") for row in ROWS if "alpha" in row.make(sgd(Task())).param_groups[0]]


@pytest.mark.parametrize(("row", "name"), NUMBERS, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1.0, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (np.float64("nan"), ValueError),
        (np.float32(-0.5), ValueError),
        ("0.1", TypeError),
        (None, TypeError),
        (True, TypeError),
        ([0.1], TypeError),
        (torch.tensor(0.1), TypeError),
        (np.array([0.1]), TypeError),
        (1j, TypeError),
    ],
)
@pytest.mark.parametrize("way", ["group", "checkpoint", "new group", "base checkpoint"])
def test_numbers_are_checked_wherever_they_come_from(row: Row, name: str, value: Any, error: Any, way: str) -> None:
    task = Task()
    optimizer = row.make(sgd(task))
    before, groups = task.weights(), str(optimizer.state_dict()["param_groups"])
    if way == "new group":
        with pytest.raises(error, match=f"{name} is "):
            optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], name: value})
        assert str(optimizer.state_dict()["param_groups"]) == groups
        return
    if way == "checkpoint":
        saved = copy.deepcopy(optimizer.state_dict())
        saved["param_groups"][0][name] = value
        with pytest.raises(error, match=f"{name} is "):
            optimizer.load_state_dict(saved)
        assert str(optimizer.state_dict()["param_groups"]) == groups
        return
    if way == "base checkpoint":
        saved = copy.deepcopy(optimizer.state_dict())
        saved["param_groups"][0][name] = value
        innermost: Any = optimizer
        while hasattr(innermost, "base"):
            innermost = innermost.base
        innermost.load_state_dict(saved)
    else:
        optimizer.param_groups[0][name] = value
    with pytest.raises(error, match=f"{name} is "):
        optimizer.step(task.closure())
    assert same(task.weights(), before)


@climbers
def test_numpy_numbers_become_plain_ones(row: Row) -> None:
    task = Task()
    optimizer = row.make(sgd(task))
    optimizer.param_groups[0]["rho"] = np.linspace(0, 1, 11)[3]
    with Synchronisations() as syncs:
        optimizer.step(task.closure())
    assert type(optimizer.param_groups[0]["rho"]) is float
    assert not [name for name in syncs.found if "equal" in name or "nonzero" in name]


def test_a_counter_that_does_not_fit_is_refused() -> None:
    task = Task()
    optimizer = Lookahead(sgd(task), k=3)
    for key, value in (("cycle_step", 4), ("cycle_step", -1), ("cycle_step", 1.5), ("skipped_steps", -2)):
        saved = copy.deepcopy(optimizer.state_dict())
        saved["param_groups"][0][key] = value
        with pytest.raises((TypeError, ValueError), match=f"{key} is {value}"):
            optimizer.load_state_dict(saved)


@pytest.mark.parametrize("make", [SAM, ASAM, MultistepSAM, Lookbehind, Lookahead])
@pytest.mark.parametrize(
    "value",
    [
        [nn.Parameter(torch.randn(30, 30)) for _ in range(60)],
        {f"layer {i}": torch.randn(100) for i in range(100)},
        nn.Sequential(*[nn.Linear(3, 3) for _ in range(100)]),
        torch.randn(1000, 1000),
        np.random.default_rng(0).normal(size=10_000),
        "word " * 10_000,
        (p for p in []),
        SGD,
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_messages_are_one_sentence_whatever_is_passed(make: Any, value: Any) -> None:
    base = sgd(Task())
    optimizer = make(base)
    calls = [
        lambda: make(value),
        lambda: make(base, value),
        lambda: make(base, rollback=value),
        lambda: make(base, nonfinite=value),
        lambda: optimizer.step([value]),
    ]
    if not isinstance(value, type):  # a class can be called, and would be
        calls.append(lambda: optimizer.step(value) if not callable(value) else make(value))
    if make is not Lookahead:
        calls += [lambda: make(base, model=[value])] + [lambda: make(base, perturbation=value)] * (not callable(value))
        calls += [lambda: make(base, same_dropout=value), lambda: make(base, sync_ascent=value)]
    for call in calls:
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert len(str(caught.value)) < 400
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: SAM(p, SGD, lr=0.1), r"base is a generator.*SAM\(torch.optim.SGD\(model.parameters\(\)"),
        (lambda p: SAM(list(p)), "base is a list of 4; an instance of torch.optim.Optimizer"),
        (lambda p: SAM(p, base_optimizer=SGD, lr=0.1), "base_optimizer is no option; SAM wraps an optimizer"),
        (lambda p: SAM(base_optimizer=SGD(p, lr=0.1)), "base_optimizer is no option"),
        (lambda p: Lookahead(base_optimizer=SGD(p, lr=0.1)), "base_optimizer is no option"),
        (lambda p: SAM(SGD, p), "base is the class SGD"),
        (lambda p: SAM(SGD(p, lr=0.1), adaptive=True), 'adaptive is no option of SAM; write perturbation="asam"'),
        (lambda p: MultistepSAM(SGD(p, lr=0.1), gather="mean"), "gather is no option of MultistepSAM; write gradient"),
        (lambda p: Lookbehind(SGD(p, lr=0.1), perturb="rank"), "perturb is no option.*sync_ascent=False"),
        (lambda p: Lookbehind(SGD(p, lr=0.1), rng="shared"), "rng is no option.*same_dropout=True"),
        (lambda p: SAM(SGD(p, lr=0.1), lr=0.1), "SAM has no option lr"),
        (lambda p: SAM(SGD(p, lr=0.1), weight_decay=0.1), "SAM has no option weight_decay; .*rollback"),
        (lambda p: SAM(SGD(p, lr=0.1), perturbation=lambda w, g: g), r"takes \(weights, gradients, state\)"),
    ],
)
def test_calls_of_other_packages_are_answered_by_the_right_line(call: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        call(Task().net.parameters())


@pytest.mark.parametrize("name", ["first_step", "second_step"])
def test_two_phase_steps_are_answered_by_the_right_line(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"SAM has no {name}: optimizer.step\(closure\) does the whole step"):
        getattr(SAM(sgd(Task())), name)


def test_the_base_optimizer_of_other_packages_is_answered() -> None:
    with pytest.raises(AttributeError, match=r"SAM has no base_optimizer: .* give a scheduler the SAM itself"):
        _ = SAM(sgd(Task())).base_optimizer


def test_asam_is_sam_with_its_rule() -> None:
    assert lookbehind.ASAM is ASAM
    a, b, c = Task(), Task(), Task()
    one = ASAM(sgd(a))
    other = SAM(sgd(b), rho=0.5, perturbation="asam")
    weights_only = ASAM(sgd(c), rho=0.3, eta=0.1, named_parameters=[("weight", p) for p in c.net.parameters()])
    for i in range(3):
        one.step(a.closure(i))
        other.step(b.closure(i))
        weights_only.step(c.closure(i))
    assert same(a.weights(), b.weights())
    assert repr(weights_only).startswith("ASAM(perturbation=Adaptive(eta=0.1, weights only)) around SGD (\n")


def test_names_of_another_model_are_noticed() -> None:
    task = Task()
    optimizer = ASAM(sgd(task), named_parameters=Task().net.named_parameters())
    before = task.weights()
    with pytest.raises(ValueError, match="names none of the parameters"):
        optimizer.step(task.closure())
    assert same(task.weights(), before)


def test_repr_names_the_method_above_the_groups() -> None:
    optimizer = Lookbehind(AdamW(Task().net.parameters()), k=3, alpha="adaptive", perturbation="asam")
    first = repr(optimizer).splitlines()[0]
    assert first == "Lookbehind(k=3, alpha='adaptive', perturbation=Adaptive(eta=0.01, all tensors)) around AdamW ("
    assert "lr: 0.001" in repr(optimizer)
    nested = Lookahead(MultistepSAM(sgd(Task()), k=4, gradient="mean"), k=7)
    assert repr(nested).startswith(
        "Lookahead(k=7) around MultistepSAM(k=4, gradient='mean', perturbation=Euclidean()) around SGD ("
    )


METHODS: dict[str, Callable[[Any], Any]] = {
    "SAM": SAM,
    "ASAM": ASAM,
    "SAM, ASAM's rule": lambda base: SAM(base, perturbation="asam"),
    "Multistep": MultistepSAM,
    "Multistep 3": lambda base: MultistepSAM(base, k=3),
    "Multistep mean": lambda base: MultistepSAM(base, gradient="mean"),
    "Lookbehind": Lookbehind,
    "Lookbehind 3": lambda base: Lookbehind(base, k=3),
    "Lookbehind adaptive": lambda base: Lookbehind(base, alpha="adaptive"),
    "Lookahead": Lookahead,
    "Lookahead 3": lambda base: Lookahead(base, k=3),
    "Lookahead of SAM": lambda base: Lookahead(SAM(base)),
    "Lookahead of Lookahead": lambda base: Lookahead(Lookahead(base)),
}


@pytest.mark.parametrize("saved", METHODS)
@pytest.mark.parametrize("loading", METHODS)
def test_a_checkpoint_knows_its_method(saved: str, loading: str) -> None:
    a, b = Task(), Task()
    one, other = METHODS[saved](sgd(a, momentum=0.9)), METHODS[loading](sgd(b, momentum=0.9))
    one.step(a.closure())
    state = copy.deepcopy(one.state_dict())
    before = str(other.state_dict())
    # A state without slow weights is welcome: a cycle begins with what the model holds.
    welcome = saved == loading or (saved, loading) in {
        ("SAM", "Lookahead of SAM"),
        ("Lookahead", "Lookahead of Lookahead"),
    }
    if welcome:
        other.load_state_dict(state)
    else:
        with pytest.raises(ValueError, match=r"the state was saved by .*; this is .*base_state_dict\(\)"):
            other.load_state_dict(state)
        assert str(other.state_dict()) == before
    # The documented way from one method to another.
    innermost = one
    while hasattr(innermost, "base"):
        bare = innermost.base_state_dict()
        innermost = innermost.base
    other.load_state_dict(bare)
    momentum = [entry["momentum_buffer"] for entry in one.state.values()]
    assert same([entry["momentum_buffer"] for entry in other.state.values()], momentum)
    b.net.load_state_dict(a.net.state_dict())
    other.step(b.closure())


def test_a_state_of_another_class_of_rule_is_refused() -> None:
    class Rule(Euclidean):
        def __repr__(self) -> str:
            return "Rule(1)"

    saved = SAM(sgd(Task()), perturbation=Rule()).state_dict()
    SAM(sgd(Task()), perturbation=Rule()).load_state_dict(saved)
    with pytest.raises(ValueError, match=r"saved by SAM\(perturbation=Rule\(1\)\); this is SAM\(perturbation=Euclid"):
        SAM(sgd(Task())).load_state_dict(saved)


class Insistent(SGD):
    """A base of somebody's own, whose step cannot be called without a closure."""

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        return super().step(closure)


@every_row
def test_a_base_whose_step_insists_on_a_closure(row: Row) -> None:
    a, b = Task(), Task()
    if row.name != "Lookahead-SGD":
        with pytest.raises(ValueError, match="base is Insistent, whose own step needs a closure"):
            row.make(Insistent(a.net.parameters(), lr=0.1))
        return
    one, other = row.make(Insistent(a.net.parameters(), lr=0.1)), row.make(sgd(b))
    for i in range(4):
        one.step(a.closure(i))
        other.step(b.closure(i))
    assert same(a.weights(), b.weights())


class Modes(SGD):
    """A base with two modes, as schedule-free optimizers have them."""

    mode = "new"

    def train(self) -> None:
        self.mode = "train"

    def eval(self) -> None:
        self.mode = "eval"


@every_row
def test_modes_of_the_base_are_the_optimizer_s(row: Row) -> None:
    base = Modes(Task().net.parameters(), lr=0.1)
    optimizer: Any = row.make(base)
    optimizer.train()
    assert base.mode == "train"
    optimizer.eval()
    assert base.mode == "eval"
    assert not hasattr(row.make(sgd(Task())), "train")


# --- scalers -------------------------------------------------------------------------------------------------------


def scaled(task: Task, scaler: Any, i: int, then: Callable[[], None] = lambda: None) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        task.net.zero_grad()
        loss = task.loss(i)
        scaler.scale(loss).backward()
        then()
        return loss

    return closure


@every_row
@pytest.mark.parametrize("which", ["optimizer", "base"])
def test_a_closure_may_unscale_and_clip(row: Row, which: str) -> None:
    """As torch's own recipe does before a step, with the threshold of unscaled gradients."""
    a, b, scaler = Task(), Task(), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    one, other = row.make(sgd(a)), row.make(sgd(b))
    for i in range(5):

        def clip() -> None:
            scaler.unscale_(one if which == "optimizer" else one.base)  # type: ignore[attr-defined]
            nn.utils.clip_grad_norm_(a.net.parameters(), 0.3)

        def clipped() -> Tensor:
            loss = b.closure(i)()  # noqa: B023 -- used in this pass of the loop only
            nn.utils.clip_grad_norm_(b.net.parameters(), 0.3)
            return loss

        one.step(scaled(a, scaler, i, clip), grad_scaler=scaler)
        scaler.update()
        other.step(clipped)
    assert same(a.weights(), b.weights())


def test_lookahead_unscaled_before_a_step_without_closure() -> None:
    a, b, scaler = Task(), Task(), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    one, other = Lookahead(sgd(a), k=2), Lookahead(sgd(b), k=2)
    for i in range(5):
        scaled(a, scaler, i)()
        scaler.unscale_(one)
        one.step(grad_scaler=scaler)
        scaler.update()
        other.step(b.closure(i))
    assert same(a.weights(), b.weights())
    scaled(a, scaler, 0)()
    one.step(grad_scaler=scaler)
    scaled(a, scaler, 0)()
    with pytest.raises(RuntimeError, match=r"scaler.update\(\)"):
        one.step(grad_scaler=scaler)


@every_row
def test_an_overflow_that_the_closure_s_own_unscaling_found_skips_the_step(row: Row) -> None:
    task, scaler = Task(), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    optimizer = row.make(sgd(task))
    before = task.weights()

    def overflow() -> None:
        assert task.net[2].bias.grad is not None
        task.net[2].bias.grad.fill_(float("inf"))
        scaler.unscale_(optimizer)
        for p in task.net.parameters():  # a clip that hides it
            p.grad = torch.ones_like(p)

    optimizer.step(scaled(task, scaler, 0, overflow), grad_scaler=scaler)
    assert optimizer.last_step_skipped  # type: ignore[attr-defined]
    assert same(task.weights(), before)
    scaler.update()
    assert scaler.get_scale() == 2.0**9


@every_row
def test_failed_steps_under_a_scaler_hold_nothing(row: Row) -> None:
    task, scaler = Task(), torch.amp.GradScaler("cpu", init_scale=2.0**4)
    optimizer = row.make(sgd(task))
    optimizer.step(scaled(task, scaler, 0), grad_scaler=scaler)
    scaler.update()

    def size() -> int:
        return len(pickle.dumps(optimizer)) + len(scaler._per_optimizer_states)

    def fail() -> None:
        raise MemoryError

    def failing(times: int) -> int:
        for _ in range(times):
            with pytest.raises(MemoryError):
                optimizer.step(scaled(task, scaler, 0, fail), grad_scaler=scaler)
        return size()

    assert failing(1) == failing(30)


# --- modes of the caller -------------------------------------------------------------------------------------------


@every_row
@pytest.mark.parametrize("nested", [False, True])
def test_autocast_around_the_step_is_as_autocast_in_the_closure(row: Row, nested: bool) -> None:
    tasks = Task(dtype=torch.float32), Task(dtype=torch.float32)
    optimizers = [row.make(sgd(task)) for task in tasks]
    losses: list[list[float]] = [[], []]
    for i in range(4):
        for j, (task, optimizer) in enumerate(zip(tasks, optimizers, strict=True)):
            outer = torch.autocast("cpu", torch.bfloat16, enabled=j == 1)
            inner = torch.autocast("cpu", torch.bfloat16) if nested or j == 0 else contextlib.nullcontext()

            def closure() -> Tensor:
                task.net.zero_grad()  # noqa: B023 -- used in this pass of the loop only
                with inner:  # noqa: B023
                    outputs = task.net(task.inputs[i])  # noqa: B023
                loss = nn.functional.mse_loss(outputs.float(), task.targets[i])  # noqa: B023
                loss.backward()
                losses[j].append(loss.item())  # noqa: B023
                return loss

            with outer:
                optimizer.step(closure)
                with torch.no_grad():  # what is evaluated after the step is the new weights
                    after = task.net(task.inputs[0])
                    torch.clear_autocast_cache()
                    assert torch.equal(after, task.net(task.inputs[0]))
    assert losses[0] == losses[1]
    assert same(tasks[0].weights(), tasks[1].weights())


def test_slow_weights_within_autocast_are_seen() -> None:
    task = Task(dtype=torch.float32)
    optimizer = Lookahead(sgd(task), k=3)
    optimizer.step(task.closure())
    with torch.autocast("cpu", torch.bfloat16):
        fast = task.net(task.inputs[0])  # autocast keeps its casts of these weights
        with optimizer.slow_weights():
            slow = task.net(task.inputs[0])
        again = task.net(task.inputs[0])
    assert torch.equal(fast, again)
    assert not torch.equal(fast, slow)


@every_row
def test_cached_parametrizations_around_the_step(row: Row) -> None:
    class Doubled(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    tasks = Task(), Task()
    for j, task in enumerate(tasks):
        parametrize.register_parametrization(task.net[0], "weight", Doubled())
        optimizer = row.make(sgd(task))
        with parametrize.cached() if j else contextlib.nullcontext():
            for i in range(3):
                optimizer.step(task.closure(i))
    assert same(tasks[0].weights(), tasks[1].weights())


MODES: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "grad off": lambda: torch.set_grad_enabled(False),
    "default device": lambda: torch.device("meta"),
    "float64 by default": lambda: default_dtype(torch.float64),
    "warnings are errors": lambda: errors_for_warnings(),
    "deterministic": lambda: deterministic(),
    "anomalies": torch.autograd.detect_anomaly,
}


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def errors_for_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@every_row
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_a_step_does_not_depend_on_the_caller_s_modes(row: Row, mode: str) -> None:
    a, b = Task(dtype=torch.float32), Task(dtype=torch.float32)
    one, other = row.make(sgd(a, momentum=0.9), nonfinite="skip"), row.make(sgd(b, momentum=0.9), nonfinite="skip")
    for i in range(4):
        if mode == "warnings are errors":
            with MODES[mode]():
                one.step(a.closure(i))
        elif mode == "anomalies":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with MODES[mode]():
                    one.step(a.closure(i))
        else:
            with MODES[mode]():
                one.step(a.closure(i))
                if hasattr(one, "slow_weights"):
                    with one.slow_weights():
                        pass
                saved = copy.deepcopy(one.state_dict())
                one.load_state_dict(saved)
        other.step(b.closure(i))
        assert torch.is_grad_enabled()
    assert same(a.weights(), b.weights())


# --- rollback and rules --------------------------------------------------------------------------------------------


@climbers
@pytest.mark.parametrize("how", ["raises", "skips"])
def test_state_put_back_keeps_its_dtype_and_identity(row: Row, how: str) -> None:
    """Of bf16 weights a base may keep float32 state, and counters that are integers."""
    p = nn.Parameter(torch.randn(4).bfloat16())
    base = NAdam([p], lr=0.01)
    optimizer = row.make(base, rollback="full", nonfinite="skip")
    fail = False

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = p.float().square().sum()
        loss.backward()
        if fail and how == "raises":
            raise RuntimeError("bad batch")
        if fail:
            assert p.grad is not None
            p.grad.fill_(float("nan"))
        return loss

    for _ in range(3):
        optimizer.step(closure)
    base.state[p]["mine"] = {"list": [torch.tensor(3), 1], "word": "kept"}
    tensors = dict(base.state[p])
    before = copy.deepcopy(base.state[p])
    fail = True
    with contextlib.suppress(RuntimeError):
        optimizer.step(closure)
    after = base.state[p]
    assert after.keys() == before.keys()
    for key, value in before.items():
        if isinstance(value, Tensor):
            assert after[key] is tensors[key]
            assert after[key].dtype is value.dtype
            assert torch.equal(after[key], value)
    assert after["mine"] == before["mine"]


class Average:
    """Climb along an average of gradients: a rule that keeps state."""

    def __call__(self, weights: list[Tensor], gradients: list[Tensor], state: Any) -> tuple[list[Tensor], Tensor]:
        average = state["average"]
        for m, g in zip(average, gradients, strict=True):
            m.mul_(0.8).add_(g, alpha=0.2)
        return average, norm(average)

    def __repr__(self) -> str:
        return "Average()"


class Fixed:
    """Climb along ones: a rule that needs no gradient."""

    needs_gradient = False

    def __call__(self, weights: list[Tensor], gradients: list[Tensor], state: Any) -> tuple[list[Tensor], Any]:
        assert gradients == []
        return [torch.ones_like(w) for w in weights], float(sum(w.numel() for w in weights)) ** 0.5


class EachItsOwn:
    """A length for each tensor."""

    def __call__(self, weights: list[Tensor], gradients: list[Tensor], state: Any) -> tuple[list[Tensor], list[Tensor]]:
        return gradients, norms(gradients)


CLIMBING: dict[str, Callable[..., Any]] = {
    "SAM": SAM,
    "MultistepSAM": lambda base, **o: MultistepSAM(base, k=3, **o),
    "mean": lambda base, **o: MultistepSAM(base, k=3, gradient="mean", **o),
    "Lookbehind": lambda base, **o: Lookbehind(base, k=3, **o),
}


@pytest.mark.parametrize("make", CLIMBING.values(), ids=CLIMBING)
def test_a_rule_that_keeps_state_resumes_bit_for_bit(make: Callable[..., Any]) -> None:
    undisturbed, resumed = Task(), Task()
    optimizer = make(AdamW(undisturbed.net.parameters(), lr=0.01), rho=0.2, perturbation=Average())
    for i in range(3):
        optimizer.step(undisturbed.closure(i))
    resumed.net.load_state_dict(undisturbed.net.state_dict())
    again = make(AdamW(resumed.net.parameters(), lr=0.01), rho=0.2, perturbation=Average())
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for i in range(3, 6):
        optimizer.step(undisturbed.closure(i))
        again.step(resumed.closure(i))
    assert same(resumed.weights(), undisturbed.weights())
    assert same(state_tensors(again), state_tensors(optimizer))
    fresh = make(AdamW(resumed.net.parameters(), lr=0.01), rho=0.2, perturbation=Average())
    fresh.step(resumed.closure(6))
    optimizer.step(undisturbed.closure(6))
    assert not same(resumed.weights(), undisturbed.weights())  # the state matters


@pytest.mark.parametrize("make", CLIMBING.values(), ids=CLIMBING)
@pytest.mark.parametrize("first", [True, False])
def test_a_rule_s_state_is_put_back_when_a_step_is_skipped(make: Callable[..., Any], first: bool) -> None:
    a, b = Task(), Task()
    one, other = (make(Adam(t.net.parameters()), perturbation=Average(), nonfinite="skip") for t in (a, b))
    for i in range(4):
        if i == (0 if first else 2):
            calls = 0

            def closure() -> Tensor:
                nonlocal calls
                calls += 1
                loss = a.closure(7)()
                if calls == 2:
                    a.net[0].weight.grad.fill_(float("nan"))  # type: ignore[union-attr]
                return loss

            one.step(closure)
            assert one.last_step_skipped
        one.step(a.closure(i))
        other.step(b.closure(i))
    assert same(a.weights(), b.weights())


def test_a_rule_that_needs_no_gradient_climbs_first() -> None:
    """One gradient an ascent, at φ + ρ / √n; the loss is the one met there."""
    task = Task()
    optimizer = SAM(sgd(task), rho=0.3, perturbation=Fixed())
    start, n = task.weights(), sum(p.numel() for p in task.net.parameters())
    seen: list[list[Tensor]] = []

    def closure() -> Tensor:
        seen.append(task.weights())
        return task.closure()()

    loss = optimizer.step(closure)
    assert len(seen) == 1
    assert torch.equal(loss, task.loss(0).detach()) is False
    for w, s in zip(seen[0], start, strict=True):
        torch.testing.assert_close(w, s + 0.3 / n**0.5, rtol=1e-12, atol=1e-12)


def test_a_length_for_each_tensor() -> None:
    task = Task()
    optimizer = SAM(sgd(task), rho=0.3, perturbation=EachItsOwn())
    seen: list[list[Tensor]] = []

    def closure() -> Tensor:
        seen.append(task.weights())
        return task.closure()()

    optimizer.step(closure)
    for w, s in zip(seen[1], seen[0], strict=True):
        assert (w - s).norm().item() == pytest.approx(0.3)


@pytest.mark.parametrize(
    "returned", [[], ([], torch.ones(())), None, (torch.ones(1), torch.ones(()), 1), [torch.ones(2)] * 4]
)
def test_what_a_rule_returns_is_checked(returned: Any) -> None:
    task = Task()
    optimizer = SAM(sgd(task), perturbation=lambda w, g, state: returned)
    before = task.weights()
    with pytest.raises(TypeError, match=r"a pair \(direction, length\) is needed"):
        optimizer.step(task.closure())
    assert same(task.weights(), before)
