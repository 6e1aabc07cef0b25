"""Which steps climb: the same decision after a skip, a resumption, on a scaled loss; and what has no meaning."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

from lookbehind import SAM, Every, FollowsRate, LargeGradient, Lookbehind, MomentumSAM, Sometimes, Window
from tests.conformance.rows import ROWS, Row, Task, same, state_tensors

SCHEDULES: dict[str, Callable[[], Any]] = {
    "every": lambda: Every(3, radius=2.0),
    "window": lambda: Window(first=2, until=5),
    "sometimes": lambda: Sometimes(0.5, seed=3),
    "large gradient": LargeGradient,
}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
# A step of several minibatches that does not climb is no step of the base, and LookSAM has a schedule of its own.
OTHERS = ("Lookbehind-switching", "S2-SAM-3", "Climb while accumulating", "LookSAM")
CLIMBING = [row for row in ROWS if row.own_model and row.name not in OTHERS]
every_climbing_row = pytest.mark.parametrize("row", CLIMBING, ids=lambda row: row.name)


def sgd(task: Task, lr: float = 0.05) -> SGD:
    return SGD(task.net.parameters(), lr=lr, momentum=0.9)


def climbed(make: Callable[[Optimizer], Optimizer], steps: int = 8) -> list[int]:
    """Return how many gradients each step took."""
    task = Task()
    optimizer = make(sgd(task))
    taken = []
    for i in range(steps):
        task.calls = 0
        optimizer.step(task.closure(i))
        taken.append(task.calls)
    return taken


def test_the_steps_that_climb() -> None:
    assert climbed(lambda base: SAM(base, when=Every(3))) == [2, 1, 1, 2, 1, 1, 2, 1]
    assert climbed(lambda base: SAM(base, when=Window(first=2, until=5))) == [1, 1, 2, 2, 2, 1, 1, 1]
    assert climbed(lambda base: SAM(base, when=Window(first=0.5, total=8))) == [1, 1, 1, 1, 2, 2, 2, 2]
    assert climbed(lambda base: Lookbehind(base, k=3, when=Every(2))) == [4, 1, 4, 1, 4, 1, 4, 1]
    assert climbed(lambda base: SAM(base, when=Sometimes(lambda t: float(t > 5)))) == [1, 1, 1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("c", [-0.5, 0.0, 0.5])
def test_large_gradients_climb(c: float) -> None:
    """By hand: ‖g‖² at the weights before each step, its running mean and variance, and the steps that follow."""
    task, by_hand = Task(), Task()
    optimizer, plain = SAM(sgd(task), rho=0.1, when=LargeGradient(c=c, delta=0.8)), sgd(by_hand)
    mean = variance = 0.0
    climbs = []
    for i in range(12):
        by_hand.closure(i)()
        gradient = [p.grad.clone() for p in by_hand.net.parameters() if p.grad is not None]
        square = sum(float((g**2).sum()) for g in gradient)
        mean = square if i == 0 else mean
        mean = 0.8 * mean + 0.2 * square
        variance = 0.8 * variance + 0.2 * (square - mean) ** 2
        climbs.append(square >= mean + c * math.sqrt(variance))
        if climbs[-1]:
            start = by_hand.weights()
            with torch.no_grad():
                for p, g in zip(by_hand.net.parameters(), gradient, strict=True):
                    p.add_(g, alpha=0.1 / math.sqrt(square))
            by_hand.closure(i)()
            with torch.no_grad():
                for p, w in zip(by_hand.net.parameters(), start, strict=True):
                    p.copy_(w)
        plain.step()
        task.calls = 0
        optimizer.step(task.closure(i))
        assert task.calls == 1 + climbs[-1]
        for one, other in zip(task.weights(), by_hand.weights(), strict=True):
            torch.testing.assert_close(one, other, rtol=0.0, atol=1e-11)
    assert True in climbs
    assert False in climbs


@every_climbing_row
def test_climbing_always_is_the_method_and_never_is_the_base(row: Row) -> None:
    tasks = [Task() for _ in range(4)]
    always, method = row.make(sgd(tasks[0]), when=Every(1)), row.make(sgd(tasks[1]))
    never, base = row.make(sgd(tasks[2]), when=Window(until=0)), sgd(tasks[3])
    for i in range(5):
        for optimizer, task in zip((always, method, never, base), tasks, strict=True):
            optimizer.step(task.closure(i))
    assert same(tasks[0].weights(), tasks[1].weights())
    assert same(tasks[2].weights(), tasks[3].weights())


@every_schedule
def test_a_skipped_step_does_not_count(schedule: Callable[[], Any]) -> None:
    a, b = Task(), Task()
    one, other = (SAM(sgd(t), rho=0.1, when=schedule(), nonfinite="skip") for t in (a, b))
    for i in range(8):
        if i in (1, 4):
            one.step(lambda: sum((p * float("nan")).sum() for p in a.net.parameters()).backward())  # type: ignore[union-attr]
        one.step(a.closure(i))
        other.step(b.closure(i))
    assert one.skipped_steps == 2
    assert same(a.weights(), b.weights())


@every_schedule
def test_resumed_bit_for_bit(schedule: Callable[[], Any]) -> None:
    a, b = Task(), Task()
    one = SAM(sgd(a), rho=0.1, when=schedule())
    for i in range(4):
        one.step(a.closure(i))
    file = io.BytesIO()
    torch.save([a.net.state_dict(), one.state_dict()], file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    torch.rand(3)  # nothing depends on torch's random state
    b.net.load_state_dict(weights)
    other = SAM(sgd(b), rho=0.1, when=schedule())
    other.load_state_dict(state)
    for i in range(4, 12):
        one.step(a.closure(i))
        other.step(b.closure(i))
    assert same(a.weights(), b.weights())
    assert same(state_tensors(one), state_tensors(other))


@every_schedule
def test_on_a_scaled_loss(schedule: Callable[[], Any]) -> None:
    """A power of two scales exactly, so all weights are equal bit for bit, and so are the decisions."""
    a, b = Task(), Task()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    one, other = (SAM(sgd(t), rho=0.1, when=schedule()) for t in (a, b))
    for i in range(8):

        def closure(i: int = i) -> torch.Tensor:
            a.net.zero_grad()
            loss = a.loss(i)
            scaler.scale(loss).backward()
            return loss

        one.step(closure, grad_scaler=scaler)
        scaler.update()
        other.step(b.closure(i))
    assert same(a.weights(), b.weights())


def test_running_statistics_follow_the_first_pass_of_each_step() -> None:
    task, plain = Task(norm=True), Task(norm=True)
    optimizer = SAM(sgd(task), rho=0.1, model=task.net, when=LargeGradient())
    for i in range(6):
        plain.net.load_state_dict(task.net.state_dict())
        plain.loss(i)
        optimizer.step(task.closure(i))
        assert torch.equal(task.net[1].running_mean, plain.net[1].running_mean)
        assert task.net[1].num_batches_tracked == i + 1


def test_each_group_s_radius_follows_its_own_rate() -> None:
    """ρ = 0.4 at rate 0.2 and ρ_min = 0.1 at rate 0: 0.25 at rate 0.1, and 0.1 at rate 0."""
    p, q = nn.Parameter(torch.ones(1, dtype=torch.float64)), nn.Parameter(torch.ones(1, dtype=torch.float64))
    base = SGD([{"params": [p], "lr": 0.1}, {"params": [q], "lr": 0.0}], lr=0.1)
    optimizer = SAM(base, rho=0.4, radius=FollowsRate(lr_max=0.2, rho_min=0.1))
    seen = []

    def closure() -> None:
        seen.append((p.item(), q.item()))
        optimizer.zero_grad()
        (p + q).sum().backward()

    optimizer.step(closure)
    assert seen[1] == pytest.approx((1 + 0.25 / math.sqrt(2), 1 + 0.1 / math.sqrt(2)), abs=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Every(0), ValueError, "n is 0.*at least 1"),
        (lambda: Every(2, radius=-1.0), ValueError, "radius is -1.0"),
        (lambda: Window(first=0.5), ValueError, "first is 0.5.*total="),
        (lambda: Window(first=1.5, total=10), ValueError, "first is 1.5.*between"),
        (lambda: Window(until=-1), ValueError, "until is -1"),
        (lambda: Sometimes(1.5), ValueError, "p is 1.5"),
        (lambda: Sometimes("half"), TypeError, "p is 'half'"),
        (lambda: LargeGradient(delta=1.0), ValueError, "delta is 1.0"),
        (lambda: LargeGradient(c=float("nan")), ValueError, "c is nan"),
        (lambda: FollowsRate(lr_max=0.1, lr_min=0.1), ValueError, "lr_max is 0.1.*lr_min"),
        (lambda: SAM(sgd(Task()), when=10), TypeError, r"when is 10; Every\(n\)"),
        (lambda: SAM(sgd(Task()), when=Every), TypeError, "when is the class Every"),
        (lambda: SAM(sgd(Task()), radius=0.1), TypeError, "radius is 0.1; FollowsRate"),
        (lambda: MomentumSAM(sgd(Task()), when=LargeGradient()), ValueError, "LargeGradient.*perturbed weights"),
        (lambda: MomentumSAM(sgd(Task()), sync_ascent=False), ValueError, "takes no sync_ascent"),
        (lambda: MomentumSAM(SGD(Task().net.parameters(), lr=0.1), along="momentum"), ValueError, "keeps none"),
    ],
)
def test_refused(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_a_checkpoint_knows_its_schedule() -> None:
    one, other = SAM(sgd(Task()), when=Every(3)), SAM(sgd(Task()), when=Every(4))
    with pytest.raises(ValueError, match=r"Every\(n=3.*Every\(n=4"):
        other.load_state_dict(one.state_dict())


def test_several_minibatches_have_no_step_that_does_not_climb() -> None:
    task = Task()
    optimizer = Lookbehind(sgd(task), k=2, when=Every(2))
    optimizer.step([task.closure(0), task.closure(1)])
    with pytest.raises(ValueError, match="one closure a step"):
        optimizer.step([task.closure(0), task.closure(1)])


class _HidesItsMomentum(SGD):
    """Keeps its momentum where nobody looks."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        for state in self.state.values():
            state["hidden"] = state.pop("momentum_buffer", None)


def test_a_momentum_that_is_not_found_is_no_plain_step() -> None:
    task = Task()
    before = task.weights()
    optimizer = MomentumSAM(_HidesItsMomentum(task.net.parameters(), lr=0.1, momentum=0.9))
    with pytest.raises(RuntimeError, match=r"_HidesItsMomentum.*displacement"):
        optimizer.step(task.closure())
    assert same(task.weights(), before)
