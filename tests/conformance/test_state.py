"""Checkpoints, copies, groups, hooks and schedulers: what holds for any torch optimizer holds for these."""

from __future__ import annotations

import copy
import functools
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from lookbehind import SAM, Adaptive, Lookahead, Lookbehind
from lookbehind.optim import norm
from tests.conformance.rows import Row, Task, every_base, every_row, same, state_tensors


def _through_disk(saved: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@every_row
@every_base
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4])
def test_resuming_is_bit_for_bit(row: Row, base, steps: int) -> None:
    """Also in the middle of a Lookahead cycle, whose k is 3."""
    undisturbed = Task()
    optimizer = row.make(base(undisturbed.net.parameters()))
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    saved: Any = None
    for i in range(8):
        if i == steps:
            saved = _through_disk((undisturbed.net.state_dict(), optimizer.state_dict(), scheduler.state_dict()))
        optimizer.step(undisturbed.closure(i))
        scheduler.step()

    resumed = Task()
    for p in resumed.net.parameters():
        nn.init.zeros_(p)
    again = row.make(base(resumed.net.parameters()))
    again_scheduler = lr_scheduler.CosineAnnealingLR(again, T_max=10)
    resumed.net.load_state_dict(saved[0])
    again_scheduler.load_state_dict(saved[2])
    again.load_state_dict(saved[1])
    for i in range(steps, 8):
        again.step(resumed.closure(i))
        again_scheduler.step()
    assert same(resumed.weights(), undisturbed.weights())
    assert same(state_tensors(again), state_tensors(optimizer))


@every_row
def test_groups_and_state_are_the_base_s_also_after_loading(row: Row) -> None:
    task = Task()
    base = torch.optim.SGD(task.net.parameters(), lr=0.1, momentum=0.9)
    optimizer = row.make(base)
    optimizer.step(task.closure())
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups is base.param_groups
    assert optimizer.state is base.state
    base.load_state_dict(base.state_dict())
    assert optimizer.param_groups is base.param_groups


@every_row
def test_a_checkpoint_of_the_bare_base_loads(row: Row) -> None:
    task = Task()
    bare = torch.optim.SGD(task.net.parameters(), lr=0.3, momentum=0.9)
    bare.step(task.closure())
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1, momentum=0.9))
    before = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    optimizer.load_state_dict(bare.state_dict())
    after = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    assert after == before | {"lr": 0.3}
    optimizer.step(task.closure())


@every_row
def test_a_checkpoint_that_does_not_fit_changes_nothing(row: Row) -> None:
    task = Task()
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1, momentum=0.9))
    optimizer.step(task.closure())
    before = state_tensors(optimizer)
    other = row.make(torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.2))
    with pytest.raises(ValueError, match=r"size|shape|saved by"):
        optimizer.load_state_dict(other.state_dict())
    assert same(state_tensors(optimizer), before)


def test_slow_weights_of_another_shape_are_refused() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    optimizer = Lookahead(torch.optim.SGD([a], lr=0.1))
    a.grad = torch.ones(2)
    optimizer.step()
    saved = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        Lookahead(torch.optim.SGD([b], lr=0.1)).load_state_dict(saved)


@every_row
@every_base
@pytest.mark.parametrize("copying", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_deepcopy_and_pickle_continue_alike(row: Row, base, copying) -> None:
    task = Task(norm=True)
    options = {"model": task.net} if row.own_model else {}
    optimizer = row.make(base(task.net.parameters()), **options)
    scheduler = lr_scheduler.StepLR(optimizer, 1)  # which takes hold of `step`
    for i in range(2):
        optimizer.step(task.closure(i))
    net, other = copying((task.net, optimizer))
    twin = Task(norm=True)
    twin.net = net
    for i in range(2, 6):
        optimizer.step(task.closure(i))
        other.step(twin.closure(i))
    assert same(twin.weights(), task.weights())
    assert same(list(net.buffers()), list(task.net.buffers()))
    assert same(state_tensors(other), state_tensors(optimizer))
    assert other.param_groups is other.base.param_groups
    assert scheduler is not None


@every_row
def test_add_param_group(row: Row) -> None:
    """Adding a group before the first step equals having had it from the start."""
    a, b = Task(), Task()
    grown = row.make(torch.optim.SGD(a.net[0].parameters(), lr=0.1, momentum=0.9))
    grown.add_param_group({"params": a.net[2].parameters(), "lr": 0.05})
    whole = row.make(
        torch.optim.SGD(
            [{"params": b.net[0].parameters()}, {"params": b.net[2].parameters(), "lr": 0.05}], lr=0.1, momentum=0.9
        )
    )
    for i in range(5):
        grown.step(a.closure(i))
        whole.step(b.closure(i))
    assert same(a.weights(), b.weights())
    assert same(state_tensors(grown), state_tensors(whole))


@every_row
def test_add_param_group_in_the_middle(row: Row) -> None:
    task = Task()
    optimizer = row.make(torch.optim.SGD(task.net[0].parameters(), lr=0.1, momentum=0.9))
    optimizer.step(task.closure())
    optimizer.add_param_group({"params": task.net[2].parameters()})
    before = task.weights()
    for i in range(4):
        optimizer.step(task.closure(i))
    assert not any(torch.equal(w, b) for w, b in zip(task.weights(), before, strict=True))


def test_a_bad_group_is_refused_and_not_added() -> None:
    task = Task()
    optimizer = SAM(torch.optim.SGD(task.net[0].parameters(), lr=0.1))
    with pytest.raises(ValueError, match="rho is -1"):
        optimizer.add_param_group({"params": list(task.net[2].parameters()), "rho": -1})
    assert len(optimizer.param_groups) == 1


@every_row
def test_hooks_run(row: Row) -> None:
    task = Task()
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1))
    ran: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: ran.append("step pre"))
    optimizer.register_step_post_hook(lambda *_: ran.append("step post"))
    optimizer.register_state_dict_pre_hook(lambda *_: ran.append("save pre"))
    optimizer.register_state_dict_post_hook(lambda _, saved: ran.append("save post") or {**saved, "note": 1})
    optimizer.register_load_state_dict_pre_hook(lambda _, saved: ran.append(f"load pre {saved.pop('note')}"))
    optimizer.register_load_state_dict_post_hook(lambda *_: ran.append("load post"))
    optimizer.step(task.closure())
    optimizer.load_state_dict(optimizer.state_dict())
    assert ran == ["step pre", "step post", "save pre", "save post", "load pre 1", "load post"]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("when", ["pre", "post"])
@every_row
def test_a_hook_alone_runs(row: Row, when: str, own: bool) -> None:
    """A step without hooks goes past torch's wrapping of steps, so each kind of hook must lead it there."""
    task = Task()
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1))
    ran: list[Any] = []
    of_all = {"pre": register_optimizer_step_pre_hook, "post": register_optimizer_step_post_hook}
    register = getattr(optimizer, f"register_step_{when}_hook") if own else of_all[when]
    handle = register(lambda stepped, *_: ran.append(stepped))
    try:
        optimizer.step(task.closure())
    finally:
        handle.remove()
    assert ran.count(optimizer) == 1
    optimizer.step(task.closure())
    assert ran.count(optimizer) == 1


@every_row
def test_profilers_see_the_step(row: Row) -> None:
    task = Task()
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        optimizer.step(task.closure())
    assert f"Optimizer.step#{type(optimizer).__name__}.step" in {event.name for event in profiler.events()}


@every_row
def test_zero_grad_and_repr(row: Row) -> None:
    task = Task()
    optimizer = row.make(torch.optim.SGD(task.net.parameters(), lr=0.1))
    task.closure()()
    optimizer.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in task.net.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in task.net.parameters())
    assert "lr: 0.1" in repr(optimizer)


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=4),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 6, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 6),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 2, cycle_momentum=True),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=10),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.9)], o
    ),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.02, 3),
}


def test_every_scheduler_of_torch_is_in_the_table() -> None:
    public = {name for name in lr_scheduler.__all__ if isinstance(getattr(lr_scheduler, name), type)}
    assert public - {"LRScheduler"} <= set(SCHEDULERS)


@every_row
@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS.keys())
@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")  # torch's own, from SequentialLR
@pytest.mark.filterwarnings("error:.*optimizer.step:UserWarning")  # a scheduler that missed our step
def test_scheduler(row: Row, make) -> None:
    """A scheduler around our optimizer, or around its base, sets what it sets around a plain optimizer."""
    seen: list[list[tuple[float, float]]] = []
    for around in ("plain", "wrapper", "base"):
        task = Task()
        base = torch.optim.SGD(task.net.parameters(), lr=0.1, momentum=0.8)
        optimizer = base if around == "plain" else row.make(base)
        scheduler = make(base if around == "base" else optimizer)
        seen.append([])
        for i in range(6):
            optimizer.step(task.closure(i))
            scheduler.step(1.0) if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else scheduler.step()
            seen[-1].append((base.param_groups[0]["lr"], base.param_groups[0]["momentum"]))
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0])) > 1


def test_rho_can_follow_a_schedule() -> None:
    task = Task()
    optimizer = Lookbehind(torch.optim.SGD(task.net.parameters(), lr=0.1), rho=0.1)
    distances = []
    for epoch in range(3):
        optimizer.param_groups[0]["rho"] = 0.1 * 0.5**epoch
        seen = []

        def closure():
            seen.append(torch.cat([w.flatten() for w in task.weights()]))  # noqa: B023 -- used in this pass only
            return task.closure()()

        optimizer.step(closure)
        distances.append((seen[1] - seen[0]).norm().item())
    assert distances == pytest.approx([0.1, 0.05, 0.025], rel=1e-9)


@every_row
def test_a_shallow_copy_leaves_the_original_as_it_was(row: Row) -> None:
    one, other = Task(), Task()
    a, b = (row.make(torch.optim.SGD(task.net.parameters(), lr=0.1)) for task in (one, other))
    copied = copy.copy(a)
    a.step(one.closure(0))
    b.step(other.closure(0))
    assert same(one.weights(), other.weights())
    with pytest.raises(RuntimeError, match="wrapped"):
        copied.step(one.closure(0))


@pytest.mark.parametrize("kind", ["lambda", "function", "partial", "method"])
def test_a_rule_made_anew_is_the_same_method(kind: str) -> None:
    """A process that resumes makes its functions anew, at other addresses."""

    def made() -> Any:
        def rule(weights: Any, gradients: Any, state: Any, scale: float = 1.0) -> Any:
            return gradients, norm(gradients) / scale

        return {
            "lambda": lambda weights, gradients, state: (gradients, norm(gradients)),
            "function": rule,
            "partial": functools.partial(rule, scale=2.0),
            "method": Adaptive(eta=0.5).__call__,
        }[kind]

    one, other = (SAM(torch.optim.SGD(Task().net.parameters(), lr=0.1), perturbation=made()) for _ in range(2))
    other.load_state_dict(one.state_dict())
    assert repr(one) == repr(other)


def test_a_base_s_own_entry_named_like_a_method_stays() -> None:
    p = nn.Parameter(torch.ones(2))
    base = torch.optim.SGD([{"params": [p], "rho": 0.0, "init_method": "x", "method": "newton"}], lr=0.1)
    optimizer = SAM(base, rho=0.5)
    group = optimizer.param_groups[0]
    assert (group["rho"], group["init_method"], group["method"]) == (0.0, "x", "newton")
    optimizer.load_state_dict(optimizer.state_dict())
    SAM(base, rho=0.7)
    assert base.param_groups[0]["init_method"] == "x"


def _mid_cycle() -> tuple[nn.Parameter, Lookahead]:
    """Slow weights [1, 2], fast ones [0.8, 1.8]; a third step would end the cycle at [0.85, 1.85]."""
    p = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    optimizer = Lookahead(torch.optim.SGD([p], lr=0.1), k=3, alpha=0.5)
    for _ in range(2):
        p.grad = torch.ones_like(p)
        optimizer.step()
    return p, optimizer


def test_slow_weights_entered_while_other_weights_are_in_the_model() -> None:
    """An average was put in and taken out around it: the cycle begins anew at the weights of training."""
    p, optimizer = _mid_cycle()
    fast = p.detach().clone()
    p.data.fill_(9.0)
    with optimizer.slow_weights():
        assert p.tolist() == [9.0, 9.0]
    p.data.copy_(fast)
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert p.tolist() == pytest.approx([0.75, 1.75])  # halfway from [0.8, 1.8] to [0.7, 1.7]


def test_ctrl_c_while_the_base_s_state_is_taken_apart_loses_no_slow_weights() -> None:
    import sys

    for event in ("call", "line", "return"):
        p, optimizer = _mid_cycle()

        def trace(frame: Any, what: str, _: Any, event: str = event) -> Any:
            if frame.f_code.co_name == "take" and what == event:
                sys.settrace(None)
                raise KeyboardInterrupt
            return trace

        p.grad = torch.ones_like(p)
        sys.settrace(trace)
        try:
            with pytest.raises(KeyboardInterrupt):
                optimizer.step()
        finally:
            sys.settrace(None)
        p.grad = torch.ones_like(p)
        optimizer.step()
        assert p.tolist() == pytest.approx([0.85, 1.85])


def _with_a_group_of_its_own(**entries: float) -> torch.optim.SGD:
    net = Task().net
    first, *rest = net.parameters()
    return torch.optim.SGD([{"params": [first], **entries}, {"params": rest}], lr=0.1)


def _through_a_pickle(base: torch.optim.SGD) -> torch.optim.SGD:
    return pickle.loads(pickle.dumps(base))


def _through_a_checkpoint(base: torch.optim.SGD) -> torch.optim.SGD:
    fresh = _with_a_group_of_its_own()
    fresh.load_state_dict(copy.deepcopy(base.state_dict()))
    return fresh


def _through_a_wrappers_checkpoint(base: torch.optim.SGD) -> torch.optim.SGD:
    fresh = _with_a_group_of_its_own()
    Lookbehind(fresh, rho=0.2, alpha=0.4).load_state_dict(copy.deepcopy(base.state_dict()))
    return fresh


@pytest.mark.parametrize(
    "carried",
    [lambda base: base, copy.deepcopy, _through_a_pickle, _through_a_checkpoint, _through_a_wrappers_checkpoint],
)
def test_what_a_group_was_given_outlives_the_wrapper(carried) -> None:
    base = _with_a_group_of_its_own(rho=0.3, alpha=0.25)
    first = Lookbehind(base, rho=0.05, alpha=0.5)
    first.param_groups[0]["rho"] = 0.9  # a scheduler's edit, which is nobody's wish for the next wrapper
    second = Lookbehind(carried(base), rho=0.7, alpha=0.8)
    assert [(group["rho"], group["alpha"]) for group in second.param_groups] == [(0.3, 0.25), (0.7, 0.8)]
    assert not any(key.startswith("given_") for key in second.base_state_dict()["param_groups"][0])


def test_a_state_taken_while_the_base_steps_is_refused_where_it_would_be_a_step_behind() -> None:
    p, optimizer = _mid_cycle()
    hook = optimizer.base.register_step_post_hook(lambda *_: optimizer.state_dict())
    before = p.tolist()
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match=r"call it after optimizer\.step"):
        optimizer.step()
    assert p.tolist() == before
    hook.remove()
    saved: list[Any] = []
    optimizer.register_step_post_hook(lambda *_: saved.append(optimizer.state_dict()))
    optimizer.step()
    assert "lookahead_slow" in saved[0]["state"][0]


@every_row
@pytest.mark.parametrize("where", ["closure", "hook"])
def test_half_a_step_is_no_checkpoint(row: Row, where: str) -> None:
    task = Task()
    base = torch.optim.SGD(task.net.parameters(), lr=0.1)
    optimizer = row.make(base)
    optimizer.step(task.closure())
    closure = task.closure(1)

    def saves() -> Any:
        optimizer.state_dict()
        return closure()

    if where == "hook":
        base.register_step_post_hook(lambda *_: optimizer.state_dict())
    with pytest.raises(RuntimeError, match="state_dict was called within a step"):
        optimizer.step(saves if where == "closure" else closure)


def test_a_state_that_the_base_loads_leaves_the_groups_their_radii() -> None:
    params = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    base = torch.optim.SGD([{"params": [p], "rho": rho} for p, rho in zip(params, (0.0, 0.7), strict=True)], lr=0.1)
    bare = torch.optim.SGD([{"params": [p]} for p in params], lr=0.1).state_dict()
    optimizer = SAM(base, rho=0.05)
    base.load_state_dict(bare)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = sum(p.square().sum() for p in params)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert [group["rho"] for group in optimizer.param_groups] == [0.0, 0.7]
